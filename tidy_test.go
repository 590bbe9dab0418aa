// Package dynamo_test keeps the house: it checks the walls between the packages and the budgets of
// files and functions. Each failure says what to do instead.
package dynamo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Budgets, tests aside.
const (
	maxFunctionLines = 70
	maxFileLines     = 600
	maxPackageLines  = 3000
)

const module = "dynamo"

// floors: a package imports packages of lower floors only.
var floors = map[string]int{
	"node/causal": 1, "node/ring": 1, "node/merkle": 2, "node/record": 3, "node/disk": 2, "node/store/background": 2, "plugins": 1, "client": 1, "node/admission": 1,
	"resolver/guest": 1, "resolver/frame": 1, "resolver/wasi": 1, "resolver/memory": 1, "resolver/fuel": 1, "resolver/hostile": 2, "node/api/httptext": 1,
	"node/config": 2, "node/wire": 3, "node/cluster": 3, "node/gossip": 4, "node/store": 4, "node/peer": 4, "resolver": 3,
	"resolver/laws": 4, "node/conflict": 5, "node/replica": 6, "node/coordinator": 7, "node/repair": 7, "node/versions": 8,
	"node/api": 8, "node": 9, "node/sim": 10, "node/sim/history": 1, "node/sim/merger": 6, "node/sim/plan": 1, "node/sim/rigged": 1, "node/sim/admin": 10, "node/sim/storm": 11, "node/sim/drill": 11,
	"node/sim/guest": 12, "node/sim/host": 12, "node/sim/campaign": 13,
	"node/sim/mutants": 12, "node/sim/mutants/mutant": 1, "node/sim/mutants/generate": 13, "cmd/dynamo": 14, "tests/chaos": 11,
	"examples/cart-merge": 11, "examples/cart-merge/cart": 1, "examples/cart-merge/guest": 2, "examples/cart-merge/embed": 11,
	"examples/guests/go": 2, "examples/guests/command-go": 2, "examples/guests/parse": 1, "examples/guests/go-parser": 2, "plugins/seal": 11,
}

// owners of foreign packages, by import path prefix. Whoever else needs one of them asks its owner.
var owners = map[string][]string{
	"github.com/cockroachdb/pebble":       {"node/store", "node/store/background", "node/disk", "node/sim"},
	"github.com/hashicorp/memberlist":     {"node/gossip"},
	"github.com/valyala/fasthttp":         {"node/api"},
	"github.com/tetratelabs/wazero":       {"resolver", "node/sim/host"},
	"gopkg.in/yaml.v3":                    {"node/config"},
	"github.com/spf13/cobra":              {"cmd/dynamo"},
	"github.com/prometheus/client_golang": {"node/api", "node"},
	"github.com/prometheus/common":        {"node/api"},
	"github.com/prometheus/client_model":  {"node/api"},
	"net/http":                            {"client", "cmd/dynamo"},
}

// clocks are the files that may read the wall clock; everybody else takes Now from Options.
var clocks = []string{
	"node/options.go", "node/sim/guest/", "node/sim/campaign/", "cmd/dynamo/", "examples/", "client/",
	"node/peer/memory.go", "node/peer/tcp.go", // the default of a Now that was not given
	"resolver/turn.go", // the time limit of a merge: a timer for each costs more than the merge, and none would look at it
}

// goers are the functions that may use the go statement, with the reason; everybody else uses
// sync.WaitGroup.Go, so that whoever starts a goroutine also waits for it.
var goers = map[string]string{
	"cmd/dynamo/serve.go": "a node that does not stop in time must not keep the process",
	"node/store/store.go": "a disk that failed may hold its goroutine for ever, and Close must not wait for it",
}

// globals are package-level variables that are no errors, with the reason why they may be.
var globals = map[string]string{
	"cmd/dynamo.version":             "set by the linker",
	"cmd/dynamo.commit":              "set by the linker",
	"plugins.modules":                "go:embed fills package-level variables only",
	"node/sim/host.built":            "the same",
	"node/sim/mutants/mutant.chosen": "the switch of mutants is asked from everywhere in a node; no real node contains it",
	"resolver/guest.module":          "exported WebAssembly functions have no receiver to keep a buffer in",
}

type file struct {
	path, pkg string
	test      bool
	lines     int
	src       string
	ast       *ast.File
	fset      *token.FileSet
}

func load(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools" || name == "dynamo-data" || name == "data") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, b, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, file{
			path: filepath.ToSlash(path), pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go"),
			lines: strings.Count(string(b), "\n"), src: string(b), ast: f, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("only %d files found: the tidy test does not see the tree", len(out))
	}
	return out
}

func TestBudgets(t *testing.T) {
	perPackage := make(map[string]int)
	for _, f := range load(t) {
		if f.test {
			continue
		}
		perPackage[f.pkg] += f.lines
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: cut it downward into a pure part", f.path, f.lines, maxFileLines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > maxFunctionLines {
				t.Errorf("%s: func %s has %d lines, more than %d", f.path, fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
	for pkg, n := range perPackage {
		if n > maxPackageLines {
			t.Errorf("package %s has %d lines, more than %d: it owns more than one thing", pkg, n, maxPackageLines)
		}
	}
}

func TestWalls(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		floor, known := floors[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no floor; give it one in tidy_test.go", f.path, f.pkg)
		}
		for _, imp := range f.ast.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if inner, ok := strings.CutPrefix(path, module+"/"); ok {
				if floors[inner] >= floor {
					t.Errorf("%s: %s (floor %d) may not import %s (floor %d): hand it in as a value or an interface", f.path, f.pkg, floor, inner, floors[inner])
				}
				continue
			}
			for prefix, who := range owners {
				if (path == prefix || strings.HasPrefix(path, prefix+"/")) && !slices.Contains(who, f.pkg) {
					t.Errorf("%s: only %s may import %s", f.path, strings.Join(who, ", "), prefix)
				}
			}
		}
	}
}

func TestSeams(t *testing.T) {
	for _, f := range load(t) {
		virtual := importsPackage(f, "testing/synctest") || f.pkg == "node/sim" // on virtual time
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !f.test && goers[f.path] == "" {
					t.Errorf("%s: a go statement without an owner: use sync.WaitGroup.Go and wait for it", f.fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok {
					return true
				}
				switch name := x.Name + "." + n.Sel.Name; {
				case name == "time.Now" && !f.test && !allowed(f.path, clocks):
					t.Errorf("%s: time.Now: take Now from Options", f.fset.Position(n.Pos()))
				case name == "time.Sleep" && f.test && !virtual:
					t.Errorf("%s: time.Sleep in a test: wait for a condition", f.fset.Position(n.Pos()))
				case x.Name == "rand" && !f.test && !allowed(f.path, clocks) && globalRand(n.Sel.Name):
					t.Errorf("%s: the global random source: take Rand from Options", f.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

func importsPackage(f file, path string) bool {
	return slices.ContainsFunc(f.ast.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

// globalRand reports whether a name of math/rand draws from the global source.
func globalRand(name string) bool {
	return slices.Contains([]string{"Int", "IntN", "Intn", "Int63", "Int64", "Uint32", "Uint64", "Float64", "Perm", "Shuffle", "Read", "N", "Text"}, name)
}

func allowed(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
}

func TestNoPackageState(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s: func init: do it in a constructor", f.path)
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					checkVars(t, f, d)
				}
			}
		}
	}
}

func checkVars(t *testing.T, f file, d *ast.GenDecl) {
	t.Helper()
	for _, s := range d.Specs {
		for _, name := range s.(*ast.ValueSpec).Names {
			switch {
			case name.Name == "_", strings.HasPrefix(name.Name, "Err"), strings.HasPrefix(name.Name, "err"):
			case globals[f.pkg+"."+name.Name] != "":
			default:
				t.Errorf("%s: package-level variable %s: make it a constant, a function or a field", f.path, name.Name)
			}
		}
	}
}

func TestExportedHaveComments(t *testing.T) {
	for _, f := range load(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				// Methods of an interface are explained where the interface is.
				named := slices.Contains([]string{"Kind", "AppendTo"}, d.Name.Name)
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !named {
					t.Errorf("%s: exported %s has no comment", f.path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: exported type %s has no comment", f.path, ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	if s, ok := e.(*ast.StarExpr); ok {
		e = s.X
	}
	if g, ok := e.(*ast.IndexExpr); ok {
		e = g.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}
