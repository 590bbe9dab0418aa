package coordinator

import (
	"testing"
	"time"

	"dynamo/node/peer"
)

// A forwarded write is minted by one node, whoever asks in whatever order.
func TestClaimIsGivenOnce(t *testing.T) {
	var c claims
	c.init(time.Unix(1, 0))
	id := c.begin()
	if c.holder(id) != "" || !c.take(id, "n1") || c.take(id, "n2") || c.take(id, "n1") || c.holder(id) != "n1" {
		t.Fatal("the claim was not given to the first, once")
	}
	c.release(id, "n2")
	if c.take(id, "n2") {
		t.Fatal("somebody else released the claim")
	}
	c.release(id, "n1") // it had no room
	if c.bar(id, "n3") || c.take(id, "n3") {
		t.Fatal("a node that can no longer be heard took the claim")
	}
	if !c.take(id, "n2") || !c.bar(id, "n2") {
		t.Fatal("a node that was lost after its claim may have stored something")
	}
	c.end(id)
	if c.take(id, "n4") {
		t.Fatal("a claim was given after the client was answered")
	}
	if next := c.begin(); next == id || !c.take(next, "n4") {
		t.Fatal("the next claim is not free")
	}
}

// Nodes that are given up do not mint when they find their way back, be the claim free again; unless they were first.
func TestClaimsAreGivenUp(t *testing.T) {
	var c claims
	c.init(time.Unix(1, 0))
	id := c.begin()
	if !c.giveUp(id, []string{"n1", "n2"}) || !c.take(id, "n3") {
		t.Fatal("no other node may mint")
	}
	c.release(id, "n3")
	if c.take(id, "n1") || c.take(id, "n2") {
		t.Fatal("a node that was given up took the claim")
	}
	if late := c.begin(); !c.take(late, "n1") || c.giveUp(late, []string{"n1", "n2"}) {
		t.Fatal("a node that may have minted was given up")
	}
}

// What an earlier life of the process forwarded is no claim of this one.
func TestClaimsOfAnEarlierLife(t *testing.T) {
	var before, after claims
	before.init(time.Unix(1, 0))
	after.init(time.Unix(2, 0))
	old := before.begin()
	for range 100 {
		after.begin()
	}
	if after.take(old, "n1") {
		t.Fatal("a claim of an earlier life was given")
	}
}

// Of two nodes that were asked for a write one has claimed it. That the other fails its precondition, which may be because
// it saw this very write, is not the answer; the same from the one that claimed it is.
func TestOnlyTheHolderOfAClaimHasTheLastWord(t *testing.T) {
	c := &Coordinator{}
	c.claims.init(time.Unix(1, 0))
	id := c.claims.begin()
	f := &forwarding{c: c, id: id, failed: &noTaker{}}
	refuses := func(node string) reply {
		return reply{target: target{node: node}, err: &peer.Error{Code: string(CodePreconditionFailed)}}
	}
	if !c.claims.take(id, "n1") {
		t.Fatal("the claim is not free")
	}
	if err := f.lost(refuses("n2")); err != nil {
		t.Fatalf("n2 answers for n1: %v", err)
	}
	if c.claims.release(id, "n1"); c.claims.take(id, "n2") {
		t.Fatal("a node that has answered may still mint")
	}
	if err := f.lost(refuses("n3")); err == nil {
		t.Fatal("nobody holds the claim, and an answer is passed over")
	}
}
