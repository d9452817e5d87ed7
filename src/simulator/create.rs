//! Creates many objects on any Kubernetes API server, in parallel and within a bound.

use futures::{Stream, StreamExt, stream};
use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde::Serialize;
use serde::de::IgnoredAny;
use std::fmt::Debug;

/// Creates kept in flight unless told otherwise. A kube-apiserver on two cores is saturated by
/// about this many.
pub const PARALLEL_DEFAULT: usize = 32;

/// Why loading stopped.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The API server refused an object or could not be reached; what was created stays. Repeating
    /// the same load is safe: objects that exist already are counted, not created again.
    #[error("creating {kind} {name}: {source}")]
    Refused {
        /// Kind of the object, such as `Pod`.
        kind: String,
        /// Name of the object.
        name: String,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },
    /// An object could not be written as JSON.
    #[error("writing {kind} {name} as JSON: {source}")]
    Unwritable {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// How many objects were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// Created by this call.
    pub new: usize,
    /// There before, under the same name.
    pub existing: usize,
}

/// Creates every object of `objects`, at most `parallel` at a time, calling `on_created` after
/// each. The objects are pulled as they are needed, so a lazy iterator is never held as a whole.
///
/// # Errors
/// The first create that fails for another reason than that the name exists; the creates still
/// in flight are dropped.
pub async fn create_all<K>(
    client: &Client,
    objects: impl IntoIterator<Item = K>,
    parallel: usize,
    on_created: impl FnMut(),
) -> Result<Created, CreateError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + Debug,
{
    create_stream(client, stream::iter(objects), parallel, on_created).await
}

async fn create_stream<K>(
    client: &Client,
    objects: impl Stream<Item = K>,
    parallel: usize,
    mut on_created: impl FnMut(),
) -> Result<Created, CreateError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + Debug,
{
    let answers =
        objects.map(|object| create_one(client, object)).buffer_unordered(parallel.max(1));
    let mut answers = std::pin::pin!(answers);
    let mut created = Created::default();
    while let Some(answer) = answers.next().await {
        match answer? {
            true => created.new += 1,
            false => created.existing += 1,
        }
        on_created();
    }
    Ok(created)
}

/// True: created; false: the name exists.
async fn create_one<K>(client: &Client, object: K) -> Result<bool, CreateError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + Debug,
{
    let kind = || K::kind(&()).into_owned();
    let name = || object.meta().name.clone().unwrap_or_default();
    let body = serde_json::to_vec(&object).map_err(|source| CreateError::Unwritable {
        kind: kind(),
        name: name(),
        source,
    })?;
    let refused = |source: kube::Error| CreateError::Refused {
        kind: kind(),
        name: name(),
        source: Box::new(source),
    };
    let path = K::url_path(&(), object.meta().namespace.as_deref());
    let request = Request::new(path)
        .create(&PostParams::default(), body)
        .map_err(|error| refused(kube::Error::BuildRequest(error)))?;
    match client.request::<IgnoredAny>(request).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(false),
        Err(error) => Err(refused(error)),
    }
}
