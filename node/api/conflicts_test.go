package api

import "testing"

func TestConflictsOverHTTP(t *testing.T) {
	h := start(t)
	var page struct {
		Conflicts []struct {
			Key       *string
			KeyBase64 []byte `json:"key_base64"`
			Count     int
			Age       float64 `json:"age_seconds"`
			Since     string
			Why       string
		}
		Next    string
		Unheard []string
	}
	h.do(t, "GET", "/v1/conflicts/ks?limit=7", "").want(t, 200).json(t, &page)
	if len(page.Conflicts) != 2 || *page.Conflicts[0].Key != "a" || page.Conflicts[1].Key != nil || string(page.Conflicts[1].KeyBase64) != "\xff" {
		t.Fatalf("%+v", page)
	}
	if e := page.Conflicts[0]; e.Count != 7 || e.Age <= 0 || e.Since != "1970-01-01T00:00:01Z" || e.Why != "trap false" || page.Next != "base64:/w==" || len(page.Unheard) != 1 {
		t.Fatalf("%+v", page)
	}
	h.do(t, "GET", "/v1/conflicts/ks?unmerged=true&after=b", "").want(t, 200).json(t, &page)
	if len(page.Conflicts) != 1 || page.Conflicts[0].Why != "trap true" || page.Conflicts[0].Count != 100 {
		t.Fatalf("%+v", page)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "unmerged=1", "prefix=a"} {
		h.do(t, "GET", "/v1/conflicts/ks?"+bad, "").problem(t, 400, "bad_request")
	}
}
