package peer

import "time"

// ClearLinks undoes all SetLink.
func (n *Network) ClearLinks() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.mu.links)
}

// Kill takes a node off the network at once, as when its power goes: nothing that it does from now on is seen, though its
// program may take its time to end.
func (n *Network) Kill(node string) {
	n.mu.Lock()
	e := n.mu.endpoints[node]
	n.mu.Unlock()
	if e != nil {
		e.fallSilent()
	}
}

// Hold keeps back all that the node sends and is sent, until Release; then it arrives, in an order of its own.
func (n *Network) Hold(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.held[node] == nil {
		n.mu.held[node] = make(chan struct{})
	}
}

// Release undoes Hold.
func (n *Network) Release(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if held := n.mu.held[node]; held != nil {
		close(held)
		delete(n.mu.held, node)
	}
}

// holder returns what to wait for before a message passes, nil if nothing.
func (n *Network) holder(from, to string) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if held := n.mu.held[from]; held != nil {
		return held
	}
	return n.mu.held[to]
}

// travel is sleep, and waits while one of the ends stands still. What was held is delivered one by one.
func (e *Endpoint) travel(s slot, to string) bool {
	if !e.sleep(s.after) {
		return false
	}
	for held := e.n.holder(e.id, to); held != nil; held = e.n.holder(e.id, to) {
		select {
		case <-held:
		case <-e.dispatcher.ctx.Done():
			return false
		}
		if !e.sleep(time.Duration(s.at%int64(time.Millisecond)) + 1) {
			return false
		}
	}
	return true
}
