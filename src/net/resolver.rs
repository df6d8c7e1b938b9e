//! Names to addresses by the system's resolver (`getaddrinfo`: the hosts file, search domains and
//! name services all count), on threads of its own, with a cache that outlives a name server.
//!
//! One lookup at a time runs for each name, however many ask. An answer serves for [`FRESH`]; after
//! that the next question starts a new lookup, and when that is slow or cannot ask its servers, the
//! old answer goes on serving, up to a day. "No such name" is an answer too, and ends that.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Lookups that run at once; the next ones wait for a thread.
const THREADS: usize = 64;
/// Names that are looked up or wait for it at once; beyond it a question fails.
const MAX_LOOKUPS: usize = 1024;
/// Longest wait for an answer, in the queue and under way. The lookup itself goes on and fills the
/// cache.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time for which an answer serves without a new lookup: what is collected every few seconds need
/// not ask each time.
const FRESH: Duration = Duration::from_secs(5);
/// How long a new lookup is waited for when an old answer is there.
const PATIENCE: Duration = Duration::from_secs(1);
/// Age up to which an old answer serves while name servers are away.
const STALE: Duration = Duration::from_secs(86_400);
/// Names whose answers are kept.
const MAX_NAMES: usize = 4096;

/// A name without an address, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    message: Arc<str>,
    /// Whether this is the servers' answer, not the want of one.
    definite: bool,
}

impl ResolveError {
    fn transient(message: &str) -> Self {
        ResolveError {
            message: message.into(),
            definite: false,
        }
    }

    /// `EAI_NONAME` and `EAI_NODATA` are answers; the standard library keeps only glibc's text of
    /// them.
    fn of(error: &io::Error) -> Self {
        let text = error.to_string();
        let definite = ["not known", "No address", "nodename nor servname"]
            .iter()
            .any(|sign| text.contains(sign));
        ResolveError {
            message: text.into(),
            definite,
        }
    }
}

type Answer = Result<Arc<[IpAddr]>, ResolveError>;

#[derive(Clone)]
struct Kept {
    addresses: Arc<[IpAddr]>,
    at: Instant,
}

#[derive(Default)]
struct Names {
    kept: HashMap<Box<str>, Kept>,
    running: HashMap<Box<str>, watch::Receiver<Option<Answer>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Default)]
struct Metrics {
    lookups: Family<ResultLabel, Counter>,
    stale: Counter,
    running: Gauge,
}

impl Metrics {
    fn count(&self, result: &'static str) {
        self.lookups.get_or_create(&ResultLabel { result }).inc();
    }
}

struct Resolver {
    names: Mutex<Names>,
    metrics: Metrics,
    /// Only its blocking threads are used. `None` when the system refused to make one.
    threads: Option<Runtime>,
}

/// One for the process, as `getaddrinfo` itself is: only so is the number of threads that hang in
/// it bounded.
static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| Resolver {
    names: Mutex::default(),
    metrics: Metrics::default(),
    threads: tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(THREADS)
        .thread_name("resolver")
        .thread_stack_size(512 << 10)
        .build()
        .ok(),
});

/// Publishes what the resolver counts.
pub fn register(registry: &mut Registry) {
    let metrics = &RESOLVER.metrics;
    for result in ["found", "failed", "refused"] {
        drop(metrics.lookups.get_or_create(&ResultLabel { result }));
    }
    registry.register(
        "name_lookups",
        "Lookups of host names by result; refused: too many were under way.",
        metrics.lookups.clone(),
    );
    registry.register(
        "name_lookups_running",
        "Lookups of host names that run or wait for a thread.",
        metrics.running.clone(),
    );
    let help =
        "Questions answered with an old address because the name servers did not answer in time.";
    registry.register("name_lookups_stale", help, metrics.stale.clone());
}

/// The addresses of a host, which may be one itself, from the cache where it has them.
///
/// # Errors
/// When the name has no address, or nobody who knows it answers within 30 seconds and no answer of
/// the last day is left.
pub async fn resolve(host: &str) -> Answer {
    if let Some(literal) = literal(host) {
        return Ok(literal);
    }
    let kept = RESOLVER.names.lock().kept.get(host).cloned();
    let Some(kept) = kept.filter(|kept| kept.at.elapsed() < STALE) else {
        return resolve_now(host).await;
    };
    if kept.at.elapsed() < FRESH {
        return Ok(kept.addresses);
    }
    match timeout(PATIENCE, RESOLVER.look_up(host)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) if error.definite => Err(error),
        Ok(Err(_)) | Err(_) => {
            RESOLVER.metrics.stale.inc();
            Ok(kept.addresses)
        }
    }
}

/// The addresses of a host, asked for now: for a probe that measures the lookup.
///
/// # Errors
/// When the name has no address, or nobody who knows it answers within 30 seconds.
pub async fn resolve_now(host: &str) -> Answer {
    if let Some(literal) = literal(host) {
        return Ok(literal);
    }
    let late = || ResolveError::transient("the name servers did not answer in time");
    timeout(DEADLINE, RESOLVER.look_up(host))
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn literal(host: &str) -> Option<Arc<[IpAddr]>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| Arc::from([ip]))
}

impl Resolver {
    /// Waits for the lookup of this name that is under way, or begins one.
    async fn look_up(&'static self, host: &str) -> Answer {
        let mut answer = {
            let names = &mut *self.names.lock();
            match names.running.get(host) {
                Some(running) => running.clone(),
                None => {
                    let running = self.begin(host, names.running.len())?;
                    names.running.insert(host.into(), running.clone());
                    running
                }
            }
        };
        let ended = answer
            .wait_for(Option::is_some)
            .await
            .map(|answer| answer.clone());
        match ended {
            Ok(Some(answer)) => answer,
            // The thread panicked; the next question begins anew.
            Ok(None) | Err(_) => Err(ResolveError::transient(
                "the lookup ended without an answer",
            )),
        }
    }

    fn begin(
        &'static self,
        host: &str,
        running: usize,
    ) -> Result<watch::Receiver<Option<Answer>>, ResolveError> {
        let Some(threads) = self.threads.as_ref().filter(|_| running < MAX_LOOKUPS) else {
            self.metrics.count("refused");
            return Err(ResolveError::transient(
                "too many name lookups wait for name servers that do not answer",
            ));
        };
        let (sender, receiver) = watch::channel(None);
        let host: Box<str> = host.into();
        self.metrics.running.inc();
        threads.spawn_blocking(move || {
            let end = End {
                resolver: self,
                host: &host,
            };
            let asked = Instant::now();
            let answer = ask(&host);
            self.keep(&host, &answer, asked);
            self.metrics
                .count(if answer.is_ok() { "found" } else { "failed" });
            drop(end);
            sender.send_replace(Some(answer));
        });
        Ok(receiver)
    }

    fn keep(&self, host: &str, answer: &Answer, asked: Instant) {
        let kept = &mut self.names.lock().kept;
        match answer {
            Ok(addresses) => {
                if kept.len() >= MAX_NAMES {
                    kept.retain(|_, kept| kept.at.elapsed() < STALE / 24);
                }
                if kept.len() < MAX_NAMES {
                    kept.insert(
                        host.into(),
                        Kept {
                            addresses: addresses.clone(),
                            at: Instant::now(),
                        },
                    );
                }
            }
            // "No such name" after a long wait is what some resolvers make of servers that are
            // away.
            Err(error) if error.definite && asked.elapsed() < PATIENCE => drop(kept.remove(host)),
            Err(_) => {}
        }
    }
}

/// Takes a lookup off the list, however it ends.
struct End<'a> {
    resolver: &'a Resolver,
    host: &'a str,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.resolver.names.lock().running.remove(self.host);
        self.resolver.metrics.running.dec();
    }
}

fn ask(host: &str) -> Answer {
    let found = (host, 0)
        .to_socket_addrs()
        .map_err(|error| ResolveError::of(&error))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address: SocketAddr| address.ip()) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if addresses.is_empty() {
        return Err(ResolveError {
            message: "the name has no address".into(),
            definite: true,
        });
    }
    Ok(addresses.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_its_own_answer_and_a_name_of_the_hosts_file_is_found() {
        assert_eq!(
            *resolve("[::1]").await.expect("a literal"),
            ["::1".parse::<IpAddr>().expect("an address")]
        );
        assert!(
            resolve("localhost")
                .await
                .expect("in the hosts file")
                .iter()
                .all(IpAddr::is_loopback)
        );
        assert!(resolve_now("no such name.invalid").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_answer_serves_while_a_lookup_takes_long() {
        let addresses: Arc<[IpAddr]> = Arc::from([IpAddr::from([192, 0, 2, 7])]);
        let (_never_answers, running) = watch::channel(None);
        {
            let names = &mut *RESOLVER.names.lock();
            names.kept.insert(
                "slow.test".into(),
                Kept {
                    addresses: addresses.clone(),
                    at: Instant::now(),
                },
            );
            names.running.insert("slow.test".into(), running);
        }
        assert_eq!(resolve("slow.test").await.expect("kept"), addresses);
        tokio::time::advance(FRESH * 2).await;
        assert_eq!(
            resolve("slow.test")
                .await
                .expect("kept, though no longer fresh"),
            addresses
        );
        tokio::time::advance(STALE).await;
        assert!(
            resolve("slow.test")
                .await
                .expect_err("a day later")
                .to_string()
                .contains("did not answer")
        );
    }
}
