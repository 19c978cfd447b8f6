//! Leases in Redis, by its clock: a key with an expiry, taken and given back by scripts that compare the token.

use std::{fmt, time::Duration};

use redis::{
    Client, ErrorKind, FromRedisValue, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{ReplicasError, leases::Held};

const DOING: &str = "Redis";
const REFUSED: &str = "it refuses the user or the password";

/// Tokens grow with Redis' clock, and if that jumps back, from the last one on.
const TAKE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local now = redis.call('TIME')
local token = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[2])) or 0) + 1)
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text)
redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
return text";
const RENEW: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return 0";
const LEFT: &str = "return redis.call('PTTL', KEYS[1])";

/// What changed stands in a stream for those who do not hear of it: a connection may be silent and not broken.
const TELL: &str = r"
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'told', ARGV[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 0";
/// The newest and the oldest id there are, then ids and texts of what was told after one.
const TOLD: &str = r"
local function id(found) return found[1] and found[1][1] or '' end
local told = {
    id(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)),
    id(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)),
}
local read = redis.call('XREAD', 'COUNT', 256, 'STREAMS', KEYS[1], ARGV[1])
if read then
    for _, entry in ipairs(read[1][2]) do
        told[#told + 1] = entry[1]
        told[#told + 1] = entry[2][2]
    end
end
return told";
/// A text and its sum, which is the version of it; without the text if its sum is the one that is known.
const FACT: &str = r"
local text = redis.call('GET', KEYS[1])
if not text then return {} end
local sum = redis.sha1hex(text)
if sum == ARGV[1] then return {sum} end
return {sum, text}";
/// Writes a text, if what is there has that sum; of nothing the sum is empty.
const SET_FACT: &str = r"
local text = redis.call('GET', KEYS[1])
if (text and redis.sha1hex(text) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1";
/// Changes that stay in the stream, about.
const MAX_TOLD: usize = 4096;

/// One connection, made when it is first used and made anew when it breaks or is silent.
pub(crate) struct Connection {
    client: Client,
    timeout: Duration,
    manager: Mutex<Option<ConnectionManager>>,
}

/// The address may have a password in it.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    pub(crate) fn new(client: Client, timeout: Duration) -> Self {
        Self {
            client,
            timeout,
            manager: Mutex::new(None),
        }
    }

    async fn manager(&self) -> Result<ConnectionManager, ReplicasError> {
        let mut made = self.manager.lock().await;
        if let Some(manager) = &*made {
            return Ok(manager.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_number_of_retries(1)
            .set_max_delay(self.timeout);
        let connect = self.client.get_connection_manager_with_config(config);
        let manager = within(self.timeout, connect).await?;
        Ok(made.insert(manager).clone())
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, redis::RedisError>>,
    ) -> Result<T, ReplicasError> {
        let done = timeout(self.timeout, work).await;
        if done.as_ref().map_or(true, |done| {
            done.as_ref().is_err_and(redis::RedisError::is_timeout)
        }) {
            // It may be silent for ever: the next one is asked over another.
            *self.manager.lock().await = None;
        }
        match done {
            Err(_) => Err(ReplicasError::timeout(DOING)),
            Ok(done) => done.map_err(|error| said(&error)),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<T, ReplicasError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        let mut manager = self.manager().await?;
        let mut broken = false;
        let done = self.within(async {
            let done = call.invoke_async(&mut manager).await;
            broken = done.as_ref().is_err_and(is_broken);
            done
        });
        let done = done.await;
        if !broken {
            return done;
        }
        // The server closed it while nobody asked anything, and may well be back; or another has taken its place.
        *self.manager.lock().await = None;
        let mut manager = self.manager().await?;
        self.within(call.invoke_async(&mut manager)).await
    }

    /// Tells all who listen on `channel`, and those who look into `stream` later.
    pub(crate) async fn tell(
        &self,
        channel: &str,
        stream: &str,
        text: &str,
    ) -> Result<(), ReplicasError> {
        let most = MAX_TOLD.to_string();
        let _: i64 = self
            .run(&Script::new(TELL), &[stream], &[channel, text, &most])
            .await?;
        Ok(())
    }

    /// A text and its version; without the text if that is the one that is `known`.
    pub(crate) async fn fact(
        &self,
        key: &str,
        known: &str,
    ) -> Result<Option<(String, Vec<u8>)>, ReplicasError> {
        let found: Vec<Vec<u8>> = self.run(&Script::new(FACT), &[key], &[known]).await?;
        let mut found = found.into_iter();
        Ok(found.next().map(|sum| {
            let sum = String::from_utf8_lossy(&sum).into_owned();
            (sum, found.next().unwrap_or_default())
        }))
    }

    /// Writes a text in the place of the version `before`, which is empty if there is to be none. Returns whether that
    /// was there.
    pub(crate) async fn set_fact(
        &self,
        key: &str,
        before: &str,
        text: &str,
    ) -> Result<bool, ReplicasError> {
        self.run(&Script::new(SET_FACT), &[key], &[before, text])
            .await
    }

    /// What was told after `after`: the newest and the oldest id there are, then ids and texts in turn.
    pub(crate) async fn told(
        &self,
        stream: &str,
        after: &str,
    ) -> Result<Vec<String>, ReplicasError> {
        self.run(&Script::new(TOLD), &[stream], &[after]).await
    }
}

/// Whether another connection may get further: this one is gone, or leads to a server that is a copy of another now, while
/// the address leads to that one.
fn is_broken(error: &redis::RedisError) -> bool {
    error.code() == Some("READONLY")
        || !error.is_timeout() && (error.is_connection_dropped() || error.is_io_error())
}

/// The service's own word for it, or what kind it is, and no more: the rest may repeat an address.
fn said(error: &redis::RedisError) -> ReplicasError {
    let text = match error.code() {
        Some("OOM") => "it is full, and its `maxmemory-policy` makes no room".to_owned(),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => REFUSED.to_owned(),
        Some("WRONGTYPE") => {
            "something else than modgate wrote stands under one of its keys".to_owned()
        }
        Some("READONLY") => "it is a copy of another Redis and takes no writes (READONLY): the address must lead to that one".to_owned(),
        Some(code) => format!("it answers {code}"),
        None if error.is_timeout() => return ReplicasError::timeout(DOING),
        None if error.is_io_error() => "it cannot be reached".to_owned(),
        None if error.kind() == ErrorKind::AuthenticationFailed => REFUSED.to_owned(),
        None => format!("{:?}", error.kind()),
    };
    ReplicasError::new(DOING, text)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, ReplicasError> {
    match timeout(limit, work).await {
        Err(_) => Err(ReplicasError::timeout(DOING)),
        Ok(done) => done.map_err(|error| said(&error)),
    }
}

#[derive(Debug)]
pub(crate) struct RedisLeases {
    connection: Connection,
    prefix: String,
    take: Script,
    renew: Script,
    release: Script,
    left: Script,
}

/// The channel on which the end of a lease is told.
pub(crate) fn released_channel(prefix: &str) -> String {
    format!("{prefix}{{modgate}}:released")
}

impl RedisLeases {
    pub(crate) fn new(client: Client, prefix: &str, timeout: Duration) -> Self {
        Self {
            connection: Connection::new(client, timeout),
            prefix: prefix.to_owned(),
            take: Script::new(TAKE),
            renew: Script::new(RENEW),
            release: Script::new(RELEASE),
            left: Script::new(LEFT),
        }
    }

    /// In braces what must be equal for keys to be on one machine of a cluster.
    fn key(&self, key: &str) -> String {
        format!("{}{{modgate}}:lease:{key}", self.prefix)
    }

    pub(crate) async fn take(
        &self,
        key: &str,
        ttl: Duration,
    ) -> Result<Option<Held>, ReplicasError> {
        let token: Option<String> = self
            .connection
            .run(
                &self.take,
                &[&self.key(key), &format!("{}{{modgate}}:token", self.prefix)],
                &[&ttl.as_millis().to_string()],
            )
            .await?;
        let token = token.map(|text| {
            text.parse()
                .map_err(|_| ReplicasError::new(DOING, "a token that is no number"))
        });
        Ok(token.transpose()?.map(|token| Held {
            key: key.into(),
            token,
            version: None,
        }))
    }

    pub(crate) async fn renew(&self, held: &Held, ttl: Duration) -> Result<bool, ReplicasError> {
        let (token, ttl) = (held.token.to_string(), ttl.as_millis().to_string());
        self.connection
            .run(&self.renew, &[&self.key(&held.key)], &[&token, &ttl])
            .await
    }

    pub(crate) async fn release(&self, held: &Held) -> Result<(), ReplicasError> {
        let (token, channel) = (held.token.to_string(), released_channel(&self.prefix));
        let _: i64 = self
            .connection
            .run(
                &self.release,
                &[&self.key(&held.key)],
                &[&token, &channel, &held.key],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn left(&self, key: &str) -> Result<Option<Duration>, ReplicasError> {
        let left: i64 = self
            .connection
            .run(&self.left, &[&self.key(key)], &[])
            .await?;
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }
}
