package laws

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxEvidenceBytes bounds the values in the evidence of a report.
const maxEvidenceBytes = 64 << 10

// Equation is one that was tested. Its inputs are named a, b, c and so on, and f is the merge.
type Equation struct {
	Law string `json:"law"`
	// Text is the equation, such as "f(f(a,b),c) = f(a,b,c)".
	Text string `json:"equation"`
	// Inputs are the siblings; nil is a delete. TimesMs are their times, in ms since 1970.
	Inputs  [][]byte `json:"inputs_base64"`
	TimesMs []uint64 `json:"times_ms"`
	// Ancestor was given to every merge, if not nil.
	Ancestor []byte `json:"ancestor_base64,omitzero"`
	// Outputs are what the two sides came to; nil is a deletion.
	Outputs [2][]byte `json:"outputs_base64"`
	// InputTypes are the content types of the inputs, empty if they have the same one; OutputTypes those of the
	// outputs, empty if they do.
	InputTypes  []string `json:"input_types,omitempty"`
	OutputTypes []string `json:"output_types,omitempty"`
}

// Violation is a law that does not hold, with a counterexample that was seen twice. If it is that of
// determinism, the two outputs are those of one merge of the inputs.
type Violation struct {
	Equation
	// Loss says in a sentence how data would be lost.
	Loss string `json:"loss"`
}

func (t finding) equationOf(law string) Equation {
	e := Equation{Law: law, Text: t.equation.String(), Outputs: [2][]byte{t.l.bytes, t.r.bytes}}
	for _, v := range t.inputs {
		e.Inputs, e.TimesMs = append(e.Inputs, v.bytes), append(e.TimesMs, v.timeMs)
	}
	if t.ancestor != nil {
		e.Ancestor = t.ancestor.bytes
	}
	if t.mixed() {
		for _, v := range t.inputs {
			e.InputTypes = append(e.InputTypes, v.ctype)
		}
	}
	if t.l.ctype != t.r.ctype && !t.l.deleted && !t.r.deleted {
		e.OutputTypes = []string{t.l.ctype, t.r.ctype}
	}
	return e
}

// input and output show a person one of them, with its content type if that is not the same for all.
func (e Equation) input(i int) string {
	return typed(excerpt(e.Inputs[i], "a delete"), e.InputTypes, i)
}

func (e Equation) output(i int) string {
	return typed(excerpt(e.Outputs[i], "a deletion"), e.OutputTypes, i)
}

func typed(text string, types []string, i int) string {
	if i < len(types) && types[i] != "" {
		return fmt.Sprintf("%s as %.100q", text, types[i])
	}
	return text
}

func (t finding) violation() *Violation {
	law := t.law()
	switch {
	case t.unrepeated:
		law = Deterministic
	case t.isCanonical():
		law = Canonical
	}
	v := &Violation{Equation: t.equationOf(law)}
	v.Loss = loss(law)
	if law == Deterministic && t.isCanonical() {
		v.Loss += " Both mean the same: the module writes a map in the order in which it happens to lie."
	}
	if d := difference(v.Outputs[0], v.Outputs[1]); d != "" {
		v.Loss += " Here " + d + "."
	}
	return v
}

// tied says that no input is older than another. The shrinker leaves it so only where that matters.
func (e Equation) tied() bool {
	return len(e.TimesMs) > 1 && slices.Min(e.TimesMs) == slices.Max(e.TimesMs)
}

// collect keeps an equation as evidence while there is room, a share for every law.
func (c *checker) collect(law string, t finding) {
	if c.report.Laws[law] > max(1, c.o.Evidence/4) || len(c.report.Evidence) >= c.o.Evidence {
		return
	}
	e := t.equationOf(law)
	size := len(e.Ancestor) + len(e.Outputs[0]) + len(e.Outputs[1])
	for _, in := range e.Inputs {
		size += len(in)
	}
	if c.evidenceBytes+size <= maxEvidenceBytes {
		c.evidenceBytes += size
		c.report.Evidence = append(c.report.Evidence, e)
	}
}

func loss(law string) string {
	switch law {
	case Deterministic:
		return "Two nodes that merge the very same siblings show different values, and the next write keeps one of them only: what the other one showed is lost."
	case Commutative:
		return "The outcome hangs on which sibling comes first, not on what is in them: what only the later one holds, or only the earlier one, can vanish."
	case Idempotent:
		return "A merged value that meets one of its own siblings again, as after a partition, changes once more: things count twice or vanish, with each exchange."
	case Canonical:
		return "The values mean the same but have different bytes, so nodes never agree that they are equal, and keep siblings that are merged again and again."
	}
	return "A node that merges some siblings first and the rest later ends with another value than one that merges all at once: what the one keeps, the other one drops, and a write on top of it makes that final."
}

// String tells a person in a line what is wrong.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s does not hold: ", v.Law, v.Text)
	for i := range v.Inputs {
		fmt.Fprintf(&b, "%c = %s, ", 'a'+i, v.input(i))
	}
	if v.Ancestor != nil {
		fmt.Fprintf(&b, "ancestor = %s, ", excerpt(v.Ancestor, ""))
	}
	if v.tied() {
		b.WriteString("all written in the same millisecond, ")
	}
	fmt.Fprintf(&b, "one side gives %s, the other %s", v.output(0), v.output(1))
	return b.String()
}

// Explain tells a person the same in several lines, and how data would be lost.
func (v Violation) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "broken law: %s, %s\n", v.Law, v.Text)
	for i := range v.Inputs {
		fmt.Fprintf(&b, "  %c = %s\n", 'a'+i, v.input(i))
	}
	if v.Ancestor != nil {
		fmt.Fprintf(&b, "  ancestor = %s\n", excerpt(v.Ancestor, ""))
	}
	if v.tied() {
		b.WriteString("  all written in the same millisecond\n")
	}
	left, right, _ := strings.Cut(v.Text, " = ")
	if v.Law == Deterministic {
		left, right = left+", once", right+", again"
	}
	width := max(len(left), len(right))
	fmt.Fprintf(&b, "  %-*s  gives  %s\n", width, left, v.output(0))
	fmt.Fprintf(&b, "  %-*s  gives  %s\n", width, right, v.output(1))
	b.WriteString(v.Loss + "\n")
	return b.String()
}

// excerpt quotes a value, unless it is JSON that can be read as it is.
func excerpt(b []byte, absent string) string {
	const most = 240
	if b == nil {
		return absent
	}
	if len(b) > most {
		return fmt.Sprintf("%q... (%d bytes)", b[:most], len(b))
	}
	if t, err := parseTree(b); err == nil && (t.kind == '{' || t.kind == '[') && printable(string(b)) {
		return string(b)
	}
	return fmt.Sprintf("%q", b)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

// short is a part of a JSON value, which needs no quotes of ours.
func short(text string) string {
	if len(text) <= 60 && printable(text) {
		return text
	}
	return excerpt([]byte(text), "")
}

// difference names one place where two JSON values differ, in a part of a sentence.
func difference(a, b []byte) string {
	x, err := parseTree(a)
	if err != nil {
		return ""
	}
	y, err := parseTree(b)
	if err != nil {
		return ""
	}
	left, right := make(map[string]string), make(map[string]string)
	x.leaves("", left)
	y.leaves("", right)
	both := maps.Clone(left)
	maps.Copy(both, right)
	for _, at := range slices.Sorted(maps.Keys(both)) {
		l, inLeft := left[at]
		r, inRight := right[at]
		name := excerpt([]byte(at), "")
		switch {
		case at == "" || l == r && inLeft && inRight:
		case !inLeft:
			return name + " is on the right side only"
		case !inRight:
			return name + " is on the left side only"
		default:
			return fmt.Sprintf("%s is %s on the left and %s on the right", name, short(l), short(r))
		}
	}
	return ""
}

// leaves maps where something stands to what it is.
func (t *tree) leaves(at string, out map[string]string) {
	if len(t.kids) == 0 {
		out[at] = string(t.append(nil))
		return
	}
	for i, kid := range t.kids {
		name := strconv.Itoa(i)
		if t.kind == '{' {
			name = t.fields[i]
		}
		kid.leaves(strings.TrimPrefix(at+"."+name, "."), out)
	}
}
