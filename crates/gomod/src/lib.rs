//! The rules of Go modules, pure: paths, versions, escaping, go.mod, module zips and their hashes
