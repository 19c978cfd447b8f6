//! What is in a bucket.

use std::sync::Arc;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{ObjectMeta, list::PaginatedListOptions};

use super::{ObjectTier, map};
use crate::{
    Key,
    tier::{InBucket, Listed, TierError, listing::Strays},
};

impl ObjectTier {
    /// Every object whose key begins with the folder `below`, or every one. Not for answers: a bucket may be large.
    pub fn list(&self, below: Option<&Key>) -> BoxStream<'static, Result<Listed, TierError>> {
        self.entries(below)
            .try_filter_map(|entry| async {
                Ok(match entry {
                    InBucket::Object(listed) => Some(listed),
                    InBucket::Stray(_) => None,
                })
            })
            .boxed()
    }

    /// The same, and what somebody else put there under names that are no keys.
    pub fn entries(&self, below: Option<&Key>) -> BoxStream<'static, Result<InBucket, TierError>> {
        let own = self.settings.prefix.trim_matches('/').to_owned();
        let prefix = match below {
            Some(key) => format!("{own}/{key}/"),
            None => format!("{own}/"),
        };
        let prefix = prefix.trim_start_matches('/').to_owned();
        let (pages, gate) = (Arc::clone(&self.client.pages), Arc::clone(&self.gate));
        // The token of the next page; none at the end.
        let first = Some(None);
        stream::try_unfold(first, move |token: Option<Option<String>>| {
            let (pages, gate) = (Arc::clone(&pages), Arc::clone(&gate));
            let (prefix, own) = (prefix.clone(), own.clone());
            async move {
                let Some(page_token) = token else {
                    return Ok(None);
                };
                let options = PaginatedListOptions {
                    page_token,
                    ..PaginatedListOptions::default()
                };
                let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
                let page = pages.list_paginated(prefix, options).await;
                let page = page.map_err(|error| map(&gate, error))?;
                let strays = page.result.extensions.get::<Strays>().cloned();
                let strays = strays.iter().flat_map(|strays| strays.0.iter());
                let objects = page.result.objects.into_iter();
                let entries: Vec<_> = strays
                    .filter(|name| !is_own(&own, name))
                    .map(|name| InBucket::Stray(name.clone()))
                    .chain(objects.filter_map(|object| entry(&own, &object)))
                    .map(Ok)
                    .collect();
                let next = page.page_token.map(Some);
                Ok(Some((stream::iter(entries), next)))
            }
        })
        .try_flatten()
        .boxed()
    }
}

/// Whether this is what the tier itself puts beside the objects: quarantine, claims.
fn is_own(prefix: &str, name: &str) -> bool {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    rest.trim_start_matches('/').starts_with('_')
}

/// What a listing has; `None` for what the tier itself puts there beside the objects.
fn entry(prefix: &str, object: &ObjectMeta) -> Option<InBucket> {
    let name = object.location.as_ref();
    if is_own(prefix, name) {
        return None;
    }
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    let key = Key::new(rest.trim_start_matches('/').to_owned());
    Some(match key {
        Ok(key) => InBucket::Object(Listed {
            key,
            size: object.size,
            modified: object.last_modified.timestamp(),
        }),
        Err(_) => InBucket::Stray(name.to_owned()),
    })
}
