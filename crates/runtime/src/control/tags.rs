//! Tags of runtimes and endpoints. Some tags of a runtime are [`Switches`], in force when the call is answered.

use super::record::{Endpoint, Runtime};
use super::runtimes::quota;
use super::store::{Change, Outcome, Stored, Tries};
use super::work::Job;
use super::{Inner, own_arn, typed};
use crate::switches::{self, Switches};
use api::control as wire;
use domain::Error;
use domain::arn::ResourceArn;
use domain::id::RuntimeId;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

type Tags = BTreeMap<String, String>;

/// How many tags one resource may have.
const MOST: u32 = 50;
/// Keys that begin so are AWS's own.
const RESERVED: &str = "aws:";

/// Something that has tags.
enum Tagged {
    Runtime(Stored<Runtime>),
    Endpoint(Stored<Endpoint>),
}

impl Inner {
    /// Adds tags, or gives those that are there another value.
    pub(super) async fn tag(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::TagResourceRequest = typed(input)?;
        match own_arn("resourceArn", &request.resource_arn, &self.region, &self.account)? {
            ResourceArn::Runtime(_) => check_runtime(&request.tags)?,
            ResourceArn::Endpoint(_) => check_endpoint(&request.tags)?,
        }
        self.change_tags(&request.resource_arn, |tags| {
            tags.extend(request.tags.clone());
            if tags.len() > MOST as usize {
                return Err(quota(
                    "tags on one resource",
                    MOST,
                    "remove some with UntagResource first",
                ));
            }
            Ok(())
        })
        .await?;
        Ok(api::to_output(&wire::TagResourceResponse {}))
    }

    /// Removes tags. One that is not there is no error.
    pub(super) async fn untag(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::UntagResourceRequest = typed(input)?;
        self.change_tags(&request.resource_arn, |tags| {
            tags.retain(|key, _| !request.tag_keys.contains(key));
            Ok(())
        })
        .await?;
        Ok(api::to_output(&wire::UntagResourceResponse {}))
    }

    /// Lists a resource's tags.
    pub(super) async fn list_tags(&self, input: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let request: wire::ListTagsForResourceRequest = typed(input)?;
        let tags = match self.tagged(&request.resource_arn).await? {
            Tagged::Runtime(runtime) => runtime.value.tags,
            Tagged::Endpoint(endpoint) => endpoint.value.tags,
        };
        Ok(api::to_output(&wire::ListTagsForResourceResponse { tags: Some(tags) }))
    }

    async fn change_tags(
        &self,
        arn: &str,
        edit: impl Fn(&mut Tags) -> Result<(), Error> + Send + Sync,
    ) -> Result<(), Error> {
        let mut tries = Tries::default();
        loop {
            let mut change = Change::default();
            let mut switched = None;
            let id;
            match self.tagged(arn).await? {
                Tagged::Runtime(read) => {
                    let mut new = read.value.clone();
                    edit(&mut new.tags)?;
                    change.replace(&read, &new);
                    id = new.id.clone();
                    switched = Some(new);
                }
                Tagged::Endpoint(read) => {
                    let mut new = read.value.clone();
                    edit(&mut new.tags)?;
                    change.replace(&read, &new);
                    id = new.runtime;
                }
            }
            if self.store.commit(change).await? == Outcome::Done {
                if let Some(runtime) = switched {
                    let switches = Switches::recorded(&runtime.id, &runtime.tags);
                    self.catalog.switch(&runtime.id, &Arc::new(switches));
                }
                return self.in_force(&id).await;
            }
            tries.again().await?;
        }
    }

    /// Puts what a call has changed about who may do what in force, before the call is answered.
    pub(super) async fn in_force(&self, id: &RuntimeId) -> Result<(), Error> {
        let settled = self.settle(id).await;
        // Two calls may publish in another order than they committed; settling once more puts that right.
        self.queue.add(Job::Settle(id.clone()));
        settled
    }

    async fn tagged(&self, arn: &str) -> Result<Tagged, Error> {
        match own_arn("resourceArn", arn, &self.region, &self.account)? {
            ResourceArn::Runtime(arn) => Ok(Tagged::Runtime(self.runtime(&arn.id).await?)),
            ResourceArn::Endpoint(arn) => {
                self.runtime(&arn.runtime.id).await?;
                Ok(Tagged::Endpoint(
                    self.endpoint(&arn.runtime.id, arn.endpoint.as_str()).await?,
                ))
            }
        }
    }
}

/// Whether a caller may give a runtime these tags.
pub(super) fn check_runtime(tags: &Tags) -> Result<(), Error> {
    check_reserved(tags)?;
    Switches::read(tags).map(|_| ())
}

/// Whether a caller may give an endpoint these tags.
pub(super) fn check_endpoint(tags: &Tags) -> Result<(), Error> {
    check_reserved(tags)?;
    switches::refuse(tags)
}

fn check_reserved(tags: &Tags) -> Result<(), Error> {
    match tags.keys().find(|key| key.to_ascii_lowercase().starts_with(RESERVED)) {
        Some(key) => Err(Error::invalid_field(
            "tags",
            format!("key '{key}' begins with '{RESERVED}', which is reserved"),
        )),
        None => Ok(()),
    }
}
