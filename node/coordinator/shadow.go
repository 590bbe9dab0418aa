package coordinator

import "dynamo/node/conflict"

// ShadowStart says which members run a candidate now, and which could not be told.
type ShadowStart struct {
	SHA256  string   `json:"sha256"`
	Nodes   []string `json:"nodes"`
	Unheard []string `json:"unheard,omitempty"`
}

// ShadowStatus is how a candidate does beside the active version: the sums, and the report of each member.
type ShadowStatus struct {
	Calls     uint64 `json:"calls"`
	Equal     uint64 `json:"equal"`
	Different uint64 `json:"different"`
	// EqualShare is Equal's among all that both versions merged, 0 if there are none.
	EqualShare     float64                          `json:"equal_share"`
	Failures       uint64                           `json:"failures"`
	ActiveFailures uint64                           `json:"active_failures"`
	Dropped        uint64                           `json:"dropped"`
	Fuel           uint64                           `json:"fuel"`
	MeanMicros     float64                          `json:"mean_micros"`
	Nodes          map[string]conflict.ShadowReport `json:"nodes"`
	Unheard        []string                         `json:"unheard,omitempty"`
}

// Add takes a member's report into the sums.
func (s *ShadowStatus) Add(r conflict.ShadowReport) {
	micros := s.MeanMicros*float64(s.Calls) + r.Micros
	s.Calls += r.Calls
	s.Equal += r.Equal
	s.Different += r.Different
	s.Failures += r.Failures
	s.ActiveFailures += r.ActiveFailures
	s.Dropped += r.Dropped
	s.Fuel += r.Fuel
	if s.Calls > 0 {
		s.MeanMicros = micros / float64(s.Calls)
	}
	if both := s.Equal + s.Different; both > 0 {
		s.EqualShare = float64(s.Equal) / float64(both)
	}
}
