// Package coordinator runs the state machine of one client request: which replicas to ask, how many
// answers suffice, what to say and what goes on afterwards (Dynamo paper, sections 4.5 and 5).
package coordinator
