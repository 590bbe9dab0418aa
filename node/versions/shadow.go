package versions

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/wire"
)

// parseSHA256 reads what names a version.
func parseSHA256(name, s string) ([32]byte, error) {
	sha, err := hex.DecodeString(s)
	if err != nil || len(sha) != 32 {
		return [32]byte{}, &coordinator.Error{Code: coordinator.CodeBadRequest, Detail: name + " is not a SHA-256 in hex"}
	}
	return [32]byte(sha), nil
}

// Shadow runs an uploaded candidate beside the active version, on every member that can be reached. The others begin
// when they hear of it from the metadata, and a member that restarts begins anew.
func (r *Resolvers) Shadow(ctx context.Context, keyspace, candidate string) (coordinator.ShadowStart, error) {
	id, err := r.candidate(keyspace, candidate)
	if err != nil {
		return coordinator.ShadowStart{}, err
	}
	if err := r.ready(ctx, id); err != nil {
		return coordinator.ShadowStart{}, err
	}
	if err := r.s.Bindings.Shadow(ctx, keyspace, id); err != nil {
		return coordinator.ShadowStart{}, coordinator.MetadataError(err)
	}
	out := coordinator.ShadowStart{SHA256: candidate, Nodes: []string{}}
	for _, a := range r.everywhere(ctx, &wire.ResolverAct{Act: wire.ActShadow, Keyspace: keyspace, SHA256: id}) {
		if a.err != nil {
			r.s.Logger.Warn("a member does not run the candidate", "keyspace", keyspace, "member", a.member, "err", a.err)
			out.Unheard = append(out.Unheard, a.member)
			continue
		}
		out.Nodes = append(out.Nodes, a.member)
	}
	return out, nil
}

func (r *Resolvers) candidate(keyspace, candidate string) ([32]byte, error) {
	if _, ok := r.s.Catalog.View().Keyspace(keyspace); !ok {
		return [32]byte{}, coordinator.UnknownKeyspace(keyspace)
	}
	return parseSHA256("sha256", candidate)
}

// ShadowStatus gathers the reports of all members.
func (r *Resolvers) ShadowStatus(ctx context.Context, keyspace string) (coordinator.ShadowStatus, error) {
	if _, ok := r.s.Catalog.View().Keyspace(keyspace); !ok {
		return coordinator.ShadowStatus{}, coordinator.UnknownKeyspace(keyspace)
	}
	out := coordinator.ShadowStatus{Nodes: map[string]conflict.ShadowReport{}}
	for _, a := range r.everywhere(ctx, &wire.ResolverAct{Act: wire.ActShadowReport, Keyspace: keyspace}) {
		var report conflict.ShadowReport
		if a.err == nil && a.reply.Done {
			a.err = json.Unmarshal(a.reply.Report, &report)
		}
		switch {
		case a.err != nil:
			out.Unheard = append(out.Unheard, a.member)
		case a.reply.Done:
			out.Nodes[a.member] = report
			out.Add(report)
		}
	}
	if len(out.Nodes) == 0 {
		return coordinator.ShadowStatus{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "no member that can be reached runs a candidate for the keyspace"}
	}
	return out, nil
}

// StopShadow ends it on all members that can be reached; the others hear of it from the metadata.
func (r *Resolvers) StopShadow(ctx context.Context, keyspace string) error {
	if _, ok := r.s.Catalog.View().Keyspace(keyspace); !ok {
		return coordinator.UnknownKeyspace(keyspace)
	}
	if err := r.s.Bindings.Shadow(ctx, keyspace, [32]byte{}); err != nil {
		return coordinator.MetadataError(err)
	}
	for _, a := range r.everywhere(ctx, &wire.ResolverAct{Act: wire.ActShadowStop, Keyspace: keyspace}) {
		if a.err != nil {
			r.s.Logger.Warn("a member was not told to stop the candidate", "keyspace", keyspace, "member", a.member, "err", a.err)
		}
	}
	return nil
}

// Promote activates an uploaded candidate, by an empty name the one that runs as a shadow, like an upload of it, and
// ends the shadow.
func (r *Resolvers) Promote(ctx context.Context, keyspace, candidate, check string) (coordinator.ResolverUpload, error) {
	if candidate == "" {
		st, err := r.ShadowStatus(ctx, keyspace)
		if err != nil {
			return coordinator.ResolverUpload{}, err
		}
		for _, report := range st.Nodes {
			if candidate != "" && candidate != report.SHA256 {
				return coordinator.ResolverUpload{}, &coordinator.Error{Code: coordinator.CodeConflict, Detail: "the members run different candidates; say which one"}
			}
			candidate = report.SHA256
		}
	}
	id, err := r.candidate(keyspace, candidate)
	if err != nil {
		return coordinator.ResolverUpload{}, err
	}
	module, config, err := conflict.Parts(ctx, r.Fetch, id)
	if err != nil {
		return coordinator.ResolverUpload{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: err.Error(), Err: err}
	}
	up, err := r.Upload(ctx, keyspace, coordinator.Upload{Module: module, Config: config, Check: check})
	if err != nil {
		return up, err
	}
	if err := r.StopShadow(ctx, keyspace); err != nil {
		return up, fmt.Errorf("promoted, but the shadow goes on: %w", err)
	}
	return up, nil
}
