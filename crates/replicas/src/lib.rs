//! Many replicas as one: leases, so that one replica fetches, and announcements, so that all know.
