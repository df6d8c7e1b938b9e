//! What every store is asked for, and what it answers.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// A failed request, by kind; the kind labels a metric.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `dns`, `connect`, `tls`, `timeout`, `auth`, `not_found`, `dimension_mismatch`,
    /// `server_error`, `bad_request`, `invalid_response`.
    pub kind: &'static str,
    /// What happened, in words, without secrets.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Failure {
            kind,
            text: text.into(),
        }
    }

    /// An answer that is not what the protocol says.
    pub fn odd(what: &str) -> Self {
        Failure::new("invalid_response", format!("unexpected answer: {what}"))
    }
}

/// What one look brought.
pub type Looked<T> = Result<T, Failure>;

/// A state, and all states that there are.
pub type State = (String, &'static [&'static str]);

/// One collection: a table, a class, an index, a set.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// Its name, for people: a label.
    pub name: String,
    /// What the store calls it.
    pub id: String,
    /// The field of the vector, where a store can have several.
    pub field: String,
    /// Number of vectors.
    pub vectors: Option<f64>,
    /// Dimension.
    pub dimension: Option<f64>,
    /// Vectors that an index covers.
    pub indexed: Option<f64>,
    /// Vectors that no index covers, where the store has one.
    pub unindexed: Option<f64>,
    /// Segments, shards or fragments.
    pub segments: Option<f64>,
    /// State.
    pub status: Option<State>,
    /// Whether the optimizer works; with its complaint.
    pub optimizer: Option<Result<(), String>>,
    /// Updates that wait to be indexed.
    pub queue: Option<f64>,
    /// Copies wanted and there.
    pub replicas: Option<(f64, f64)>,
    /// Bytes by part.
    pub bytes: Vec<(&'static str, f64)>,
    /// When it was written last, Unix time in seconds.
    pub written: Option<f64>,
    /// Whether a valid index can be used: by name.
    pub indexes: Vec<Index>,
    /// How distance is measured, in the store's words.
    pub space: String,
    /// Whether another vector may be nearer than the vector itself: by the inner product.
    pub inner_product: bool,
    /// Whether it can be searched now.
    pub searchable: bool,
}

/// An index of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// `hnsw`, `ivfflat`, …
    pub method: String,
    /// Whether it is valid; one that is being built is not.
    pub valid: bool,
    /// Scans so far.
    pub scans: Option<f64>,
    /// Size in bytes.
    pub bytes: Option<f64>,
}

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The version that it states.
    pub version: Option<String>,
    /// Whether it says that it can serve.
    pub ready: bool,
    /// Number of collections, those beyond the bound included.
    pub total: usize,
    /// The collections that are looked at.
    pub collections: Vec<Collection>,
    /// Nodes, and whether they are well.
    pub nodes: Vec<(String, bool)>,
    /// What could not be read, beside what could.
    pub problems: Vec<String>,
}

/// A vector that is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its identifier.
    pub id: String,
    /// The vector.
    pub vector: Vec<f64>,
}

/// One vector that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its identifier.
    pub id: String,
    /// Whether it is equal to what was searched for, as far as the distance says; `None` where the
    /// store tells none.
    pub equal: Option<bool>,
}

/// Which collections are looked at.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Only these; all when empty.
    pub only: Vec<String>,
    /// At most so many.
    pub most: usize,
}

impl Choice {
    /// Whether a collection is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The wanted among these names, within the bound.
    pub fn of(&self, mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names.retain(|name| self.wants(name));
        names.truncate(self.most);
        names
    }
}

/// What a search may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// As applications search.
    Usual,
    /// By comparing with every vector.
    Exact,
}

/// One kind of store. Every call reads.
pub trait Store: Send {
    /// Where it is, without secrets.
    fn address(&self) -> String;

    /// What it holds.
    fn survey(
        &mut self,
        choice: &Choice,
        timeout: Duration,
    ) -> impl Future<Output = Looked<Survey>> + Send;

    /// Any stored vectors, at most so many; none where the store hands out none.
    fn sample(
        &mut self,
        collection: &Collection,
        most: usize,
        timeout: Duration,
    ) -> impl Future<Output = Looked<Vec<Stored>>> + Send;

    /// The nearest vectors, nearest first; `None` where the store cannot search so.
    fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> impl Future<Output = Looked<Option<Vec<Hit>>>> + Send;

    /// The index that a search uses, `Some(None)` for none; `None` where the store does not tell.
    fn used_index(
        &mut self,
        _collection: &Collection,
        _stored: &Stored,
        _timeout: Duration,
    ) -> impl Future<Output = Looked<Option<Option<String>>>> + Send {
        async { Ok(None) }
    }
}

/// A [`Store`] of any kind, whose futures are boxed; every store is one.
pub trait AnyStore: Send {
    /// As [`Store::address`].
    fn address(&self) -> String;

    /// As [`Store::survey`].
    fn survey<'a>(
        &'a mut self,
        choice: &'a Choice,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Survey>>;

    /// As [`Store::sample`].
    fn sample<'a>(
        &'a mut self,
        collection: &'a Collection,
        most: usize,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Vec<Stored>>>;

    /// As [`Store::nearest`].
    fn nearest<'a>(
        &'a mut self,
        collection: &'a Collection,
        stored: &'a Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Option<Vec<Hit>>>>;

    /// As [`Store::used_index`].
    fn used_index<'a>(
        &'a mut self,
        collection: &'a Collection,
        stored: &'a Stored,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Option<Option<String>>>>;
}

impl<T: Store> AnyStore for T {
    fn address(&self) -> String {
        Store::address(self)
    }

    fn survey<'a>(
        &'a mut self,
        choice: &'a Choice,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Survey>> {
        Box::pin(Store::survey(self, choice, timeout))
    }

    fn sample<'a>(
        &'a mut self,
        collection: &'a Collection,
        most: usize,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Vec<Stored>>> {
        Box::pin(Store::sample(self, collection, most, timeout))
    }

    fn nearest<'a>(
        &'a mut self,
        collection: &'a Collection,
        stored: &'a Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Option<Vec<Hit>>>> {
        Box::pin(Store::nearest(
            self, collection, stored, most, search, timeout,
        ))
    }

    fn used_index<'a>(
        &'a mut self,
        collection: &'a Collection,
        stored: &'a Stored,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Option<Option<String>>>> {
        Box::pin(Store::used_index(self, collection, stored, timeout))
    }
}
