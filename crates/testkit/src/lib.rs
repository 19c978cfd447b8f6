//! For tests only: a lab upstream with faults, a lying checksum database, real clients, a started gateway

pub mod sumdb;
