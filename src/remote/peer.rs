//! Instances that watch each other (`peers`): each posts signed heartbeats to the others and
//! notices whose do not come any more.
//!
//! A heartbeat names its sender, its receiver and its time, under HMAC-SHA256 with a secret that
//! all share. It is taken once: what is not newer than the last one of its sender, or far from our
//! own clock, is refused and counted. A peer that falls silent is no matter of this file: its last
//! heartbeat is a metric, and a rule compares that with the time (`NightbellPeerSilent`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;
use tracing::{info, warn};
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{Client, Request};
use crate::model::text::hex;
use crate::model::time::millis;
use crate::model::{Timestamp, clock};
use crate::telemetry::Telemetry;

/// Where a peer takes heartbeats, below its URL.
pub const PATH: &str = "/api/nightbell/heartbeat";
/// How far the clocks of two peers may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// Who has not looked at the clock for so long stood still.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Shortest secret, in bytes.
const SHORTEST_SECRET: usize = 16;

/// The block `peers`.
#[derive(Clone, Debug)]
pub struct Peers {
    /// How the others know us.
    name: String,
    secret: Secret,
    interval: Duration,
    grace: Duration,
    watch: Vec<Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    name: String,
    url: Url,
}

impl Peers {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let name: String = section.require("name");
        let secret = section.secret("secret");
        match &secret {
            None if section.node("secret").is_none() && section.node("secret_file").is_none() => {
                section.error(
                    "",
                    "has neither secret nor secret_file",
                    "give all peers the same one: openssl rand -hex 32 > FILE",
                );
            }
            Some(secret) if secret.expose().len() < SHORTEST_SECRET => {
                section.error(
                    "secret",
                    "is shorter than 16 characters",
                    "make one with openssl rand -hex 32",
                );
            }
            _ => {}
        }
        let interval = section.or("interval", Duration::from_secs(15));
        let grace = section.or("grace", Duration::from_secs(60));
        if interval < Duration::from_secs(1) {
            section.error("interval", "is below a second", "give for example 15s");
        }
        if grace <= interval {
            section.error(
                "grace",
                "is not above the interval",
                "give several times the interval, for example 1m",
            );
        }
        let watch: Vec<Peer> = section
            .sections("watch")
            .iter()
            .filter_map(|peer| Peer::read(peer, &name))
            .collect();
        for (index, peer) in watch.iter().enumerate() {
            if watch[..index].iter().any(|other| other.name == peer.name) {
                section.error(
                    "watch",
                    format!("names {:?} twice", peer.name),
                    "name each peer once",
                );
            }
        }
        if watch.is_empty() {
            section.error(
                "watch",
                "names no peer",
                "give [{name: …, url: 'http://…:9908'}]",
            );
        }
        section.finish();
        Some(Peers {
            name,
            secret: secret?,
            interval,
            grace,
            watch,
        })
    }

    /// The heartbeat to a peer at `now`.
    fn beat(&self, to: &str, now: Timestamp) -> Heartbeat {
        let signature = signature(&self.secret, &self.name, to, now.0);
        Heartbeat {
            from: self.name.clone(),
            to: to.to_owned(),
            at_ms: now.0,
            signature,
        }
    }
}

impl Peer {
    fn read(section: &Section<'_>, own: &str) -> Option<Self> {
        let name: String = section.require("name");
        let url: Option<Url> = section.get("url");
        if name == own && !own.is_empty() {
            section.error("name", "is our own", "name the other instance");
        }
        match &url {
            None => section.error("", "has no url", "give the other's address: http://…:9908"),
            Some(url) if !matches!(url.scheme(), "http" | "https") => {
                section.error("url", "is not an http or https URL", "give http://…:9908")
            }
            Some(_) => {}
        }
        section.finish();
        let mut url = url?;
        url.set_path(&format!("{}{PATH}", url.path().trim_end_matches('/')));
        Some(Peer { name, url })
    }
}

/// A heartbeat as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Whose it is.
    pub from: String,
    /// Whom it is for.
    pub to: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// HMAC-SHA256 in hexadecimal.
    pub signature: String,
}

fn signature(secret: &Secret, from: &str, to: &str, at_ms: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().trim().as_bytes())
        .expect("HMAC takes keys of any length");
    // The lengths keep names apart, whatever they hold.
    mac.update(
        format!(
            "nightbell-heartbeat\0{}\0{from}\0{}\0{to}\0{at_ms}",
            from.len(),
            to.len()
        )
        .as_bytes(),
    );
    hex(&mac.finalize().into_bytes())
}

/// Why a heartbeat is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nobody is watched here, or not this one, or it is meant for somebody else.
    Unknown,
    /// It is not signed with our secret.
    Signature,
    /// Its time is far from ours.
    Clock,
    /// It is not newer than the last one.
    Replay,
}

impl Refusal {
    /// Every refusal, so that counters can start at zero.
    const ALL: [Refusal; 4] = [
        Refusal::Unknown,
        Refusal::Signature,
        Refusal::Clock,
        Refusal::Replay,
    ];

    /// The reason as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Unknown => "unknown",
            Refusal::Signature => "signature",
            Refusal::Clock => "clock",
            Refusal::Replay => "replay",
        }
    }
}

/// The peers of this process, as the configuration names them now, and what was heard of them.
#[derive(Clone)]
pub struct Watch {
    settings: Arc<RwLock<Option<Peers>>>,
    /// The time that the last heartbeat of each bears.
    last: Arc<Mutex<BTreeMap<String, i64>>>,
    /// There is another configuration.
    changed: Arc<Notify>,
    /// When it was looked at the clock last, in milliseconds of the monotonic one.
    looked: Arc<Mutex<i64>>,
    metrics: Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

#[derive(Clone, Default)]
struct Metrics {
    last: Family<PeerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    grace: Family<PeerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    received: Family<PeerLabels, Counter>,
    refused: Family<RefusalLabels, Counter>,
    sent: Family<PeerLabels, Counter>,
    failed: Family<PeerLabels, Counter>,
}

impl Watch {
    /// Publishes the metrics; the time before a peer's first heartbeat counts from `now`.
    pub fn start(settings: Option<Peers>, telemetry: &Telemetry, now: Timestamp) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            let help = "When the last heartbeat of a peer came, or since when there was none.";
            registry.register(
                "peer_last_heartbeat_timestamp_seconds",
                help,
                metrics.last.clone(),
            );
            registry.register(
                "peer_grace_seconds",
                "How long a peer may be silent.",
                metrics.grace.clone(),
            );
            registry.register(
                "peer_heartbeats_received",
                "Heartbeats of a peer that were taken.",
                metrics.received.clone(),
            );
            registry.register(
                "peer_heartbeats_refused",
                "Heartbeats that were not taken, by reason.",
                metrics.refused.clone(),
            );
            registry.register(
                "peer_heartbeats_sent",
                "Heartbeats that were tried.",
                metrics.sent.clone(),
            );
            registry.register(
                "peer_heartbeats_failed",
                "Heartbeats that a peer did not take.",
                metrics.failed.clone(),
            );
        });
        for reason in Refusal::ALL {
            drop(metrics.refused.get_or_create(&RefusalLabels {
                reason: reason.as_str(),
            }));
        }
        let looked = Arc::new(Mutex::new(clock::monotonic()));
        let watch = Watch {
            settings: Arc::default(),
            last: Arc::default(),
            changed: Arc::default(),
            looked,
            metrics,
        };
        watch.replace(settings, now);
        // Before the metrics are read by which a rule calls a peer silent.
        let before = watch.clone();
        telemetry.before_reading(move || before.look());
        watch
    }

    /// Takes a new configuration. What was heard of peers that stay is kept.
    pub fn replace(&self, settings: Option<Peers>, now: Timestamp) {
        let former = self.names();
        *self.settings.write() = settings;
        let names = self.names();
        for peer in former.into_iter().filter(|name| !names.contains(name)) {
            let labels = PeerLabels { peer };
            self.metrics.last.remove(&labels);
            self.metrics.grace.remove(&labels);
        }
        let grace = self
            .settings
            .read()
            .as_ref()
            .map_or(Duration::ZERO, |peers| peers.grace);
        for peer in names {
            let labels = PeerLabels { peer };
            self.metrics
                .grace
                .get_or_create(&labels)
                .set(grace.as_secs_f64());
            for counter in [
                &self.metrics.received,
                &self.metrics.sent,
                &self.metrics.failed,
            ] {
                drop(counter.get_or_create(&labels));
            }
            let last = self.metrics.last.get_or_create(&labels);
            if last.get() == 0.0 {
                last.set(now.seconds());
            }
        }
        self.changed.notify_one();
    }

    /// The clock has jumped by so many milliseconds: who was heard of lately still was, and what
    /// comes by the new time is no replay.
    pub fn clock_jumped(&self, millis: i64) {
        self.last
            .lock()
            .values_mut()
            .for_each(|at| *at = at.saturating_add(millis));
        for peer in self.names() {
            let last = self.metrics.last.get_or_create(&PeerLabels { peer });
            last.set(last.get() + millis as f64 / 1000.0);
        }
    }

    /// Looks at the clock, which is done all the time: when this process stood still since, that is
    /// no silence of the others, whose heartbeats still lie unread.
    pub fn look(&self) {
        let mut looked = self.looked.lock();
        let monotonic = clock::monotonic();
        let late = monotonic - std::mem::replace(&mut *looked, monotonic);
        if late < millis(STOOD_STILL) {
            return;
        }
        let (now, time) = (Timestamp::now().seconds(), late as f64 / 1000.0);
        for peer in self.names() {
            let last = self.metrics.last.get_or_create(&PeerLabels { peer });
            last.set((last.get() + time).min(now));
        }
    }

    fn names(&self) -> Vec<String> {
        self.settings
            .read()
            .iter()
            .flat_map(|peers| &peers.watch)
            .map(|peer| peer.name.clone())
            .collect()
    }

    /// Takes a heartbeat that came at `now`, or says why not.
    pub fn take(&self, heartbeat: &Heartbeat, now: Timestamp) -> Result<(), Refusal> {
        let outcome = self.judge(heartbeat, now);
        match outcome {
            Ok(()) => {
                let labels = PeerLabels {
                    peer: heartbeat.from.clone(),
                };
                self.metrics.received.get_or_create(&labels).inc();
                self.metrics.last.get_or_create(&labels).set(now.seconds());
            }
            Err(refusal) => {
                self.metrics
                    .refused
                    .get_or_create(&RefusalLabels {
                        reason: refusal.as_str(),
                    })
                    .inc();
            }
        }
        outcome
    }

    fn judge(&self, heartbeat: &Heartbeat, now: Timestamp) -> Result<(), Refusal> {
        let settings = self.settings.read();
        let peers = settings.as_ref().ok_or(Refusal::Unknown)?;
        // Who has no secret learns nothing of who is watched here.
        let right = signature(
            &peers.secret,
            &heartbeat.from,
            &heartbeat.to,
            heartbeat.at_ms,
        );
        if !bool::from(right.as_bytes().ct_eq(heartbeat.signature.as_bytes())) {
            return Err(Refusal::Signature);
        }
        if heartbeat.to != peers.name || peers.watch.iter().all(|peer| peer.name != heartbeat.from)
        {
            return Err(Refusal::Unknown);
        }
        let at = Timestamp(heartbeat.at_ms);
        if now.since(at).max(at.since(now)) > SKEW {
            return Err(Refusal::Clock);
        }
        let mut last = self.last.lock();
        let last = last.entry(heartbeat.from.clone()).or_insert(i64::MIN);
        if heartbeat.at_ms <= *last {
            return Err(Refusal::Replay);
        }
        *last = heartbeat.at_ms;
        Ok(())
    }

    /// Sends heartbeats until the process ends, as the configuration says at the time.
    pub async fn run(self) -> Result<(), Infallible> {
        let (client, mut failing) = (Client::plain(), BTreeMap::<String, bool>::new());
        loop {
            let Some(peers) = self.settings.read().clone() else {
                self.changed.notified().await;
                continue;
            };
            let next = tokio::time::Instant::now() + peers.interval;
            let sent = peers
                .watch
                .iter()
                .map(|peer| self.send(&client, &peers, peer));
            for (peer, problem) in futures_util::future::join_all(sent).await {
                match (
                    &problem,
                    failing
                        .insert(peer.clone(), problem.is_some())
                        .unwrap_or(false),
                ) {
                    (Some(error), false) => {
                        warn!(peer, error, "A peer does not take our heartbeats.")
                    }
                    (None, true) => info!(peer, "A peer takes our heartbeats again."),
                    _ => {}
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    async fn send(&self, client: &Client, peers: &Peers, peer: &Peer) -> (String, Option<String>) {
        let labels = PeerLabels {
            peer: peer.name.clone(),
        };
        self.metrics.sent.get_or_create(&labels).inc();
        let heartbeat = peers.beat(&peer.name, Timestamp::now());
        // Strings and numbers always have a JSON form.
        let body = serde_json::to_value(&heartbeat).unwrap_or_default();
        let deadline = DEADLINE.min(peers.interval);
        let problem = match client
            .send(Request::post_json(peer.url.clone(), &body, deadline))
            .await
        {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!("answered {}", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        if problem.is_some() {
            self.metrics.failed.get_or_create(&labels).inc();
        }
        (peer.name.clone(), problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(name: &str, secret: &str, other: &str) -> Peers {
        Peers {
            name: name.into(),
            secret: Secret::new(secret),
            interval: Duration::from_secs(15),
            grace: Duration::from_secs(60),
            watch: vec![Peer {
                name: other.into(),
                url: Url::parse("http://127.0.0.1:9/").expect("a URL"),
            }],
        }
    }

    /// Replays, clocks that differ and wrong signatures are refused and counted; what is meant for
    /// another is, too.
    #[test]
    fn a_heartbeat_is_taken_once_from_whom_we_watch_with_our_secret_in_our_time() {
        let now = Timestamp(1_000_000_000);
        let a = peers("a", "0123456789abcdef", "b");
        let b = Watch::start(
            Some(peers("b", "0123456789abcdef", "a")),
            &Telemetry::new(),
            now,
        );
        let beat = a.beat("b", now);
        assert_eq!(b.take(&beat, now), Ok(()));
        assert_eq!(b.take(&beat, now), Err(Refusal::Replay));
        assert_eq!(
            b.take(&a.beat("b", now - Duration::from_secs(1)), now),
            Err(Refusal::Replay),
            "an older one"
        );
        let later = now + Duration::from_secs(100);
        assert_eq!(b.take(&a.beat("b", later), now), Err(Refusal::Clock));
        assert_eq!(
            b.take(&a.beat("b", now + Duration::from_secs(1)), later),
            Err(Refusal::Clock),
            "kept back too long"
        );
        assert_eq!(
            b.take(&a.beat("c", later), later),
            Err(Refusal::Unknown),
            "for another"
        );
        assert_eq!(
            b.take(&peers("x", "0123456789abcdef", "b").beat("b", later), later),
            Err(Refusal::Unknown),
            "of a stranger"
        );
        let wrong = [
            peers("a", "another secret 00", "b").beat("b", later),
            Heartbeat {
                at_ms: later.0 + 1,
                ..a.beat("b", later)
            },
            Heartbeat {
                from: "b".into(),
                ..a.beat("b", later)
            },
            Heartbeat {
                signature: String::new(),
                ..a.beat("b", later)
            },
        ];
        for heartbeat in wrong {
            assert_eq!(
                b.take(&heartbeat, later),
                Err(Refusal::Signature),
                "{heartbeat:?}"
            );
        }
        assert_eq!(
            b.take(&a.beat("b", later), later),
            Ok(()),
            "the true one is still taken"
        );
        let count = |refusal: Refusal| {
            b.metrics
                .refused
                .get_or_create(&RefusalLabels {
                    reason: refusal.as_str(),
                })
                .get()
        };
        assert_eq!(Refusal::ALL.map(count), [2, 4, 2, 2]);
    }
}
