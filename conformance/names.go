package main

import (
	"strconv"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

func paths(args [][]byte) facts {
	path := string(args[0])
	prefix, major, ok := module.SplitPathVersion(path)
	answer := facts{
		"path":     module.CheckPath(path) == nil,
		"escape":   orNull(module.EscapePath(path)),
		"unescape": orNull(module.UnescapePath(path)),
		"split":    nil,
	}
	if ok && answer["path"] == true {
		answer["split"] = []string{prefix, major}
	}
	return answer
}

func versions(args [][]byte) facts {
	version := string(args[0])
	answer := facts{
		"valid":      semver.IsValid(version),
		"canonical":  semver.Canonical(version),
		"major":      semver.Major(version),
		"prerelease": semver.Prerelease(version),
		"build":      semver.Build(version),
		"module":     module.CanonicalVersion(version),
		"pseudo":     module.IsPseudoVersion(version),
		"escape":     orNull(module.EscapeVersion(version)),
		"unescape":   orNull(module.UnescapeVersion(version)),
		"rev":        orNull(module.PseudoVersionRev(version)),
		"base":       orNull(module.PseudoVersionBase(version)),
		"time":       nil,
	}
	if t, err := module.PseudoVersionTime(version); err == nil {
		answer["time"] = t.Unix()
	}
	return answer
}

func compare(args [][]byte) facts {
	return facts{"order": semver.Compare(string(args[0]), string(args[1]))}
}

func check(args [][]byte) facts {
	return facts{"ok": module.Check(string(args[0]), string(args[1])) == nil}
}

func pseudo(args [][]byte) facts {
	seconds, err := strconv.ParseInt(string(args[2]), 10, 64)
	if err != nil {
		fail(err)
	}
	return facts{"version": module.PseudoVersion(string(args[0]), string(args[1]), time.Unix(seconds, 0), string(args[3]))}
}

func match(args [][]byte) facts {
	return facts{"matched": module.MatchPrefixPatterns(string(args[0]), string(args[1]))}
}

func synthesized(args [][]byte) facts {
	return facts{"file": "module " + modfile.AutoQuote(string(args[0])) + "\n"}
}
