//! Keys and bytes: a folder with one owner, atomic commits, growing spools and kept mappings
