package wire

// ModuleGet asks for a resolver module, a configuration, or a manifest of both, by its hash: 32 bytes.
type ModuleGet struct{ SHA256 [32]byte }

// AppendTo implements Message.
func (m *ModuleGet) AppendTo(dst []byte) []byte { return append(dst, m.SHA256[:]...) }

// ModuleReply answers ModuleGet: u8 flags (1 found), bytes module.
type ModuleReply struct {
	Found  bool
	Module []byte
}

// AppendTo implements Message.
func (m *ModuleReply) AppendTo(dst []byte) []byte {
	return AppendBytes(AppendFlags(dst, m.Found), m.Module)
}

// ModulePut hands a resolver module over, and the configuration that belongs to it: bytes module, bytes config. It
// is answered once the module is compiled, or by a failure that says why it cannot be. Idempotent.
type ModulePut struct{ Module, Config []byte }

// AppendTo implements Message.
func (m *ModulePut) AppendTo(dst []byte) []byte {
	return AppendBytes(AppendBytes(dst, m.Module), m.Config)
}

// Act is what a node is to do about the resolver of a keyspace. Numbers are never used again.
type Act uint8

// The acts.
const (
	// ActRelease ends the quarantine of the active version; done: there was one.
	ActRelease Act = iota + 1
	// ActShadow runs a candidate beside the active version; done: always.
	ActShadow
	// ActShadowStop ends that; done: there was one.
	ActShadowStop
	// ActShadowReport asks how it went; done: there is one, and the report is JSON.
	ActShadowReport
)

// ResolverAct tells a node about the resolver of a keyspace: u8 act, bytes keyspace, 32 bytes hash of the version
// that is meant. Idempotent.
type ResolverAct struct {
	Act      Act
	Keyspace string
	SHA256   [32]byte
}

// AppendTo implements Message.
func (m *ResolverAct) AppendTo(dst []byte) []byte {
	return append(AppendBytes(append(dst, byte(m.Act)), m.Keyspace), m.SHA256[:]...)
}

// ResolverActReply answers ResolverAct: u8 flags (1 done), bytes report.
type ResolverActReply struct {
	Done   bool
	Report []byte
}

// AppendTo implements Message.
func (m *ResolverActReply) AppendTo(dst []byte) []byte {
	return AppendBytes(AppendFlags(dst, m.Done), m.Report)
}

// Kind implements Message.
func (*ModuleGet) Kind() Kind        { return KindModuleGet }
func (*ModuleReply) Kind() Kind      { return KindModuleReply }
func (*ModulePut) Kind() Kind        { return KindModulePut }
func (*ResolverAct) Kind() Kind      { return KindResolverAct }
func (*ResolverActReply) Kind() Kind { return KindResolverActReply }

// resolverMessage reads one of this file's messages.
func (d *Decoder) resolverMessage(kind Kind) Message {
	switch kind {
	case KindModuleGet:
		m := &ModuleGet{}
		copy(m.SHA256[:], d.Take(32))
		return m
	case KindModuleReply:
		return &ModuleReply{Found: d.Flags(1) != 0, Module: d.Blob()}
	case KindModulePut:
		return &ModulePut{Module: d.Blob(), Config: d.Blob()}
	case KindResolverAct:
		m := &ResolverAct{}
		if act := d.Take(1); act != nil {
			m.Act = Act(act[0])
		}
		m.Keyspace = d.String()
		copy(m.SHA256[:], d.Take(32))
		return m
	}
	return &ResolverActReply{Done: d.Flags(1) != 0, Report: d.Blob()}
}
