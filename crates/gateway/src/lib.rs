//! The life of a request: parse, route, keep, fetch, verify, answer, record
