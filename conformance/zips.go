package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// checkZip does with a downloaded zip what the go command does: checks it, hashes it, unpacks it.
func checkZip(args [][]byte) facts {
	mod := module.Version{Path: string(args[0]), Version: string(args[1])}
	folder, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fail(err)
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "m.zip")
	if err := os.WriteFile(file, args[2], 0o600); err != nil {
		fail(err)
	}
	var why string
	_, err = zip.CheckZip(mod, file)
	hash, hashErr := "", error(nil)
	if err == nil {
		if hash, hashErr = dirhash.HashZip(file, dirhash.Hash1); hashErr != nil {
			err = hashErr
		}
	}
	if err == nil {
		err = zip.Unzip(filepath.Join(folder, "unpacked"), mod, file)
	}
	if err != nil {
		why = err.Error()
	}
	return facts{"h1": orNull(hash, err), "why": why}
}

// A source file, as a version control system lists it.
type source struct {
	Name    []byte `json:"name"`
	Kind    string `json:"kind"`
	Length  int64  `json:"size"`
	Content []byte `json:"content"`
}

func (s source) Path() string                 { return string(s.Name) }
func (s source) Lstat() (fs.FileInfo, error)  { return info{s}, nil }
func (s source) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s.Content)), nil }

type info struct{ source }

func (i info) Name() string       { return path.Base(i.Path()) }
func (i info) Size() int64        { return i.Length }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	switch i.Kind {
	case "symlink":
		return fs.ModeSymlink | 0o777
	case "folder":
		return fs.ModeDir | 0o755
	case "other":
		return fs.ModeNamedPipe | 0o644
	}
	return 0o644
}

func checkFiles(args [][]byte) facts {
	var sources []source
	if err := json.Unmarshal(args[0], &sources); err != nil {
		fail(err)
	}
	files := make([]zip.File, len(sources))
	for i, s := range sources {
		files[i] = s
	}
	checked, err := zip.CheckFiles(files)
	var content bytes.Buffer
	created := zip.Create(&content, module.Version{Path: "example.com/m", Version: "v1.0.0"}, files)
	if (err == nil) != (created == nil) {
		fail(created)
	}
	if err != nil {
		return facts{"valid": nil, "omitted": nil, "why": err.Error()}
	}
	omitted := []string{}
	for _, o := range checked.Omitted {
		omitted = append(omitted, o.Path)
	}
	slices.Sort(omitted)
	return facts{"valid": append([]string{}, checked.Valid...), "omitted": omitted, "why": ""}
}
