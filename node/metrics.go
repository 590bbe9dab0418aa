package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"dynamo/node/config"
	"dynamo/node/repair"
)

// newRegistry returns the node's metrics; each registry is the node's own, so that several nodes can
// live in one process.
func newRegistry(n *Node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{n})
	return r
}

// collector reads the parts' own counters at each scrape.
type collector struct{ n *Node }

// Describe implements prometheus.Collector: the metrics are what Collect sends.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := sink(ch)
	c.store(m)
	c.disk(m)
	c.peers(m)
	c.repair(m)
	c.resolvers(m)
	c.members(m)
}

type sink chan<- prometheus.Metric

func (s sink) counter(name, help string, v uint64, labels ...string) {
	s.send(prometheus.CounterValue, name, help, float64(v), labels)
}

func (s sink) gauge(name, help string, v float64, labels ...string) {
	s.send(prometheus.GaugeValue, name, help, v, labels)
}

// send takes labels as name, value, name, value.
func (s sink) send(t prometheus.ValueType, name, help string, v float64, labels []string) {
	l := prometheus.Labels{}
	for i := 0; i+1 < len(labels); i += 2 {
		l[labels[i]] = labels[i+1]
	}
	s <- prometheus.MustNewConstMetric(prometheus.NewDesc("dynamo_"+name, help, nil, l), t, v)
}

func (c collector) store(m sink) {
	st := c.n.store.Stats()
	m.gauge("store_keys", "Keys this node holds, tombstones included.", float64(st.Keys))
	m.gauge("store_disk_bytes", "What the database takes on the disk.", float64(st.DiskBytes))
	m.counter("store_reads_total", "Records read.", st.Reads)
	m.counter("store_updates_total", "Records changed.", st.Updates)
	m.counter("store_unchanged_total", "Updates that changed nothing.", st.Unchanged)
	m.counter("store_syncs_total", "Waits for the log to be on the disk; many share one fsync.", st.Syncs)
	m.counter("store_corrupt_total", "Reads of corrupt records or files.", st.Corrupt)
	m.counter("store_background_errors_total", "Flushes and compactions that failed.", st.BackgroundErrors)
	m.counter("store_disk_slow_total", "Disk operations of over 5 s.", st.DiskSlow)
	m.counter("store_write_stalls_total", "Times that writes had to wait for the database.", st.WriteStalls)
}

// disk shows what the guard of the disk's space and the mender of corrupt records do.
func (c collector) disk(m sink) {
	if sp := c.n.store.Space(); sp.Guarded {
		full := 0.0
		if sp.Full {
			full = 1
		}
		m.gauge("disk_free_bytes", "Free space of the disk, less what is promised: unflushed writes, and the ballast if it is gone.", float64(sp.Free))
		m.gauge("disk_watermark_bytes", "Free space below which this node takes no writes.", float64(sp.Watermark))
		m.gauge("disk_ballast_bytes", "Size of the ballast file, 0 if it was given up.", float64(sp.Ballast))
		m.gauge("disk_full", "Whether this node takes no writes because its disk is full.", full)
		m.counter("disk_full_refused_total", "Writes of clients and of other nodes that a full disk refused.", sp.Refused)
	}
	st := c.n.mender.Stats()
	m.counter("corrupt_records_total", "Corrupt records that were refilled from other replicas, discarded, or found no room to wait.", st.Mended, "outcome", "refilled")
	m.counter("corrupt_records_total", "Corrupt records that were refilled from other replicas, discarded, or found no room to wait.", st.Discarded, "outcome", "discarded")
	m.counter("corrupt_records_total", "Corrupt records that were refilled from other replicas, discarded, or found no room to wait.", st.Dropped, "outcome", "dropped")
	m.counter("corrupt_refill_failures_total", "Attempts to refill a corrupt record that failed and will be repeated.", st.Failed)
	m.gauge("corrupt_pending", "Corrupt records that wait to be refilled.", float64(st.Pending))
}

func (c collector) peers(m sink) {
	st := c.n.transport.Stats()
	m.counter("peer_calls_total", "Calls of this node to others.", st.Calls)
	m.counter("peer_call_failures_total", "Calls of this node that failed.", st.Failures)
	m.counter("peer_requests_total", "Requests of other nodes.", st.Requests)
	m.counter("peer_overloaded_total", "Requests of other nodes that were turned away.", st.Overloaded)
	m.counter("peer_bytes_total", "Bytes of frames.", st.BytesIn, "direction", "in")
	m.counter("peer_bytes_total", "Bytes of frames.", st.BytesOut, "direction", "out")
	m.gauge("peer_connections", "Connections open.", float64(st.ConnectionsIn), "direction", "in")
	m.gauge("peer_connections", "Connections open.", float64(st.ConnectionsOut), "direction", "out")
	m.counter("peer_refused_total", "Handshakes that ended in a refusal.", st.Refused)
}

func (c collector) repair(m sink) {
	st := c.n.repairer.Stats()
	m.counter("read_repairs_total", "Replicas that were behind and were sent the joined object of a read.", st.Repaired, "outcome", "done")
	m.counter("read_repairs_total", "Replicas that were behind and were sent the joined object of a read.", st.RepairFailed, "outcome", "failed")
	m.counter("read_repairs_total", "Replicas that were behind and were sent the joined object of a read.", st.Dropped, "outcome", "dropped")
	m.counter("hints_delivered_total", "Hints handed back to their primary.", st.Delivered, "outcome", "done")
	m.counter("hints_delivered_total", "Hints handed back to their primary.", st.DeliveryFailed, "outcome", "failed")
	for worker, state := range map[string]repair.State{
		"handoff": st.Handoff, "read_repair": st.ReadRepair, "anti_entropy": st.AntiEntropy, "settle": st.Settle, "check": st.Check,
	} {
		busy := 0.0
		if state == repair.Busy {
			busy = 1
		}
		m.gauge("worker_busy", "Whether a background worker has work in hand.", busy, "worker", worker)
	}
	c.exchanges(m, st)
	const left = "Hints that were let go without their primary, by reason."
	m.counter("hints_dropped_total", left, st.Expired, "reason", "age")
	m.counter("hints_dropped_total", left, st.Redirected, "reason", "member_removed")
	m.counter("hints_dropped_total", left, st.DroppedKeyspace, "reason", "keyspace_dropped")
	for node, h := range c.n.store.HintStats() {
		m.gauge("hints", "Hints kept for a primary that is away.", float64(h.Count), "for", node)
		m.gauge("hint_bytes", "Bytes of the hints kept for a primary that is away.", float64(h.Bytes), "for", node)
		if !h.Oldest.IsZero() {
			m.gauge("hint_oldest_seconds", "Age of the oldest hint for a primary that is away.", c.n.o.Now().Sub(h.Oldest).Seconds(), "for", node)
		}
	}
}

func (c collector) exchanges(m sink, st repair.Stats) {
	e := st.Exchanges
	const trees = "Hash trees that were compared with another replica's, by outcome."
	m.counter("exchange_trees_total", trees, e.Compared-e.Differed, "outcome", "equal")
	m.counter("exchange_trees_total", trees, e.Differed, "outcome", "different")
	m.counter("exchange_trees_total", trees, e.Unready, "outcome", "unready")
	m.counter("exchange_keys_total", "Keys that anti-entropy found different on two replicas.", e.Keys)
	m.counter("exchange_objects_total", "Objects moved by anti-entropy.", e.Sent, "direction", "out")
	m.counter("exchange_objects_total", "Objects moved by anti-entropy.", e.Received, "direction", "in")
	m.counter("exchange_failures_total", "Exchanges that broke off.", e.Failed)
	if !e.Clean.IsZero() {
		m.gauge("exchange_clean_timestamp_seconds", "When all trees were last compared with all other replicas.", float64(e.Clean.UnixMilli())/1e3)
	}
	m.gauge("repair_rate_bytes", "What background work may move now, per second.", st.Rate)
	m.gauge("repair_foreground_p99_seconds", "Latency of clients' requests by which that rate was set.", st.P99.Seconds())
	s := st.Settled
	m.counter("settle_rounds_total", "Settle rounds begun.", s.Rounds)
	m.counter("settle_aborted_total", "Settle rounds put off, as when a member is away.", s.Aborted)
	m.counter("settle_keys_total", "Keys settled.", s.Reaped, "what", "tombstone")
	m.counter("settle_keys_total", "Keys settled.", s.Collapsed, "what", "siblings")
	m.counter("settle_keys_total", "Keys settled.", s.Pruned, "what", "context")
	m.counter("settle_refused_total", "Keys on which the primaries did not agree yet.", s.Refused)
}

func (c collector) resolvers(m sink) {
	t := c.n.settler.Totals()
	for path, v := range t.Paths {
		m.counter("settle_total", "Times that siblings were settled, by the path that asked.", v, "path", path)
	}
	m.counter("merge_calls_total", "Calls of resolver modules.", t.Calls)
	m.counter("merge_failures_total", "Calls of resolver modules that failed.", t.Failures)
	for code, v := range t.FailuresByErrCode {
		m.counter("merge_failures_by_code_total", "Calls of resolver modules that failed, by reason.", v, "code", code)
	}
	m.gauge("merge_seconds_total", "Time spent in resolver modules.", t.MergeTime.Seconds())
	m.counter("collapses_total", "Objects whose siblings were collapsed.", t.Collapsed)
	held := c.n.settler.Quarantines()
	for _, ks := range c.n.state.View().Keyspaces() {
		if ks.Conflict == config.PolicyResolver {
			v := 0.0
			if _, ok := held[ks.Name]; ok {
				v = 1
			}
			m.gauge("resolver_quarantined", "Whether this node does not call the active resolver because it failed too often.", v, "keyspace", ks.Name)
		}
	}
	m.gauge("view_cache_bytes", "Memory of memoised merges.", float64(t.ViewBytes))
}

func (c collector) members(m sink) {
	v := c.n.state.View()
	for _, mem := range v.Members {
		up := 0.0
		if mem.ID == c.n.o.ID || c.n.state.Reachable(mem.ID) {
			up = 1
		}
		m.gauge("member_reachable", "Whether a member can be reached from this node.", up, "member", mem.ID)
		m.gauge("member_partitions", "Partitions whose token a member holds.", float64(v.Ring.Tokens(mem.ID)), "member", mem.ID)
	}
	m.gauge("metadata_version", "Version of the cluster metadata.", float64(v.Version))
	ready := 0.0
	if c.n.isReady() {
		ready = 1
	}
	m.gauge("ready", "Whether this node can coordinate.", ready)
}
