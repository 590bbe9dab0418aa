package api

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the HTTP door.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	bodyBytes *prometheus.CounterVec
	inflight  prometheus.Gauge
	refused   prometheus.Counter

	registerer prometheus.Registerer
	all        []prometheus.Collector
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		registerer: r,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dynamo_http_requests_total", Help: "Requests answered.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dynamo_http_request_seconds", Help: "Time from the headers of a request to its answer being ready, in seconds.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method"}),
		bodyBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dynamo_http_body_bytes_total", Help: "Bytes of bodies, of requests in and of answers out.",
		}, []string{"direction"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dynamo_http_inflight_requests", Help: "Requests at work.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dynamo_http_connections_refused_total", Help: "Connections turned away because there were too many.",
		}),
	}
	m.all = []prometheus.Collector{
		m.requests, m.seconds, m.bodyBytes, m.inflight, m.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dynamo_http_connections", Help: "Connections of clients open.",
		}, func() float64 { return float64(s.door.count()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dynamo_http_queued_requests", Help: "Requests that wait for their turn.",
		}, func() float64 { _, waiting := s.gate.Load(); return float64(waiting) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dynamo_http_inflight_bytes", Help: "Memory of the bodies of requests.",
		}, func() float64 { return float64(s.bodies.Taken()) }),
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, errors.Join(errors.New("api: metrics"), err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) observe(route, method string, status int, d time.Duration, in, out int) {
	if !slices.Contains([]string{"GET", "HEAD", "PUT", "POST", "DELETE"}, method) {
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route, method).Observe(max(0, d.Seconds()))
	m.bodyBytes.WithLabelValues("in").Add(float64(in))
	m.bodyBytes.WithLabelValues("out").Add(float64(out))
}
