//! History by buckets, which clients cache and compare by digests.

use std::collections::{BTreeMap, BTreeSet};

use tidings_common::domain::{Bucket, ChannelId, Quoting, Seq, UserId, Version};

use super::channels::readable;
use super::{Context, ServiceError};

pub(crate) struct Buckets {
    context: Context,
}

/// What there is to say of a bucket to somebody who holds one of it.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// It is as it was.
    Same {
        digest: String,
    },
    Changed {
        digest: String,
        items: Vec<Quoting>,
    },
}

impl Buckets {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// `holds` says whether the caller has the bucket of this digest. Reads at most 256 messages
    /// and as many that they quote.
    pub(crate) async fn get(
        &self,
        who: UserId,
        channel: ChannelId,
        bucket: Bucket,
        holds: impl Fn(&str) -> bool,
    ) -> Result<Fetched, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        let fetched = self.fetch(channel, bucket, holds).await?;
        // Who was removed in the meantime must not see what was written since.
        readable(store, who, channel).await?;
        Ok(fetched)
    }

    async fn fetch(
        &self,
        channel: ChannelId,
        bucket: Bucket,
        holds: impl Fn(&str) -> bool,
    ) -> Result<Fetched, ServiceError> {
        let digest = self.digest(channel, bucket).await?;
        if holds(&digest) {
            return Ok(Fetched::Same { digest });
        }
        let store = &self.context.store;
        let (after, through) = (bucket.after(), bucket.through());
        let seqs: Vec<Seq> = (after + 1..=through).collect();
        let messages = store.messages_at(channel, &seqs).await?;
        let items = self.context.quoting(channel, messages).await?;
        // Of what was read, which may be newer than the digest above.
        let versions = items.iter().map(|one| {
            let quoted = one.quote.as_ref().map(|quote| quote.version);
            (Version::from(&one.message), quoted)
        });
        let digest = Bucket::digest(self.context.epoch, versions);
        Ok(Fetched::Changed { digest, items })
    }

    /// The buckets among those held that are different now, with their digests.
    pub(crate) async fn compare(
        &self,
        who: UserId,
        channel: ChannelId,
        held: BTreeMap<Bucket, String>,
    ) -> Result<BTreeMap<Bucket, String>, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        let mut differ = BTreeMap::new();
        for (bucket, held) in held {
            let digest = self.digest(channel, bucket).await?;
            if digest != held {
                differ.insert(bucket, digest);
            }
        }
        readable(store, who, channel).await?;
        Ok(differ)
    }

    /// Reads no contents.
    async fn digest(&self, channel: ChannelId, bucket: Bucket) -> Result<String, ServiceError> {
        let store = &self.context.store;
        let (after, through) = (bucket.after(), bucket.through());
        let versions = store.versions(channel, after, through).await?;
        let own = versions.iter().map(|version| (version.seq, *version));
        let mut known: BTreeMap<Seq, Version> = own.collect();
        let answered = versions.iter().filter_map(|version| version.reply_to);
        let missing: BTreeSet<Seq> = answered.filter(|seq| !known.contains_key(seq)).collect();
        if !missing.is_empty() {
            let missing: Vec<Seq> = missing.into_iter().collect();
            let found = store.versions_at(channel, &missing).await?;
            known.extend(found.into_iter().map(|version| (version.seq, version)));
        }
        let quoted = |seq: Seq| known.get(&seq).copied();
        let versions = versions.into_iter();
        let versions = versions.map(|version| (version, version.reply_to.and_then(quoted)));
        Ok(Bucket::digest(self.context.epoch, versions))
    }
}
