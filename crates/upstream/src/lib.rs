//! A chain of upstreams: walking it, health, circuit breaker, retry and hedging
