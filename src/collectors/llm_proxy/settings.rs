//! The keys of a pass-through.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use crate::collectors::gen_ai::{self, Period};
use crate::config::{SecretSource, Section};
use crate::http::{HeaderName, Relay, TlsConfig};

/// An answer of which nothing has come for so long is given up.
const SILENCE: Duration = Duration::from_secs(600);

/// Hosts by their end, and the provider that is behind them.
const HOSTS: &[(&str, &str)] = &[
    ("openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("anthropic.com", "anthropic"),
    ("deepseek.com", "deepseek"),
    ("aliyuncs.com", "dashscope"),
    ("googleapis.com", "gcp.gemini"),
    ("moonshot.cn", "moonshot_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("bigmodel.cn", "zhipu"),
    ("z.ai", "zhipu"),
    ("mistral.ai", "mistral_ai"),
    ("openrouter.ai", "openrouter"),
    ("siliconflow.cn", "siliconflow"),
    ("siliconflow.com", "siliconflow"),
    ("groq.com", "groq"),
    ("x.ai", "x_ai"),
    ("amazonaws.com", "aws.bedrock"),
];

/// The keys of a pass-through.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where calls go: what follows the name of the pass-through is appended.
    pub upstream: Option<Url>,
    /// The provider, as metrics show it.
    pub provider: String,
    /// The header in which a caller says who it is.
    pub caller_header: Option<HeaderName>,
    /// The header in which it says which of its agents calls.
    pub agent_header: Option<HeaderName>,
    /// A token that callers from elsewhere send in `X-Nightbell-Token`.
    pub token: Option<SecretSource>,
    /// Everybody who reaches this server may call.
    pub is_open: bool,
    /// Answers are asked for without compression.
    pub is_plain: bool,
    /// Money for a day and for a month, by the name of the period.
    pub budget: BTreeMap<&'static str, f64>,
    /// Its currency.
    pub currency: String,
    /// Calls beyond the budget are refused.
    pub refuses: bool,
    /// What is known of calls.
    pub calls: gen_ai::Settings,
    /// Passes them on.
    pub relay: Option<Relay>,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let upstream: Option<Url> = section.get("upstream");
        if !upstream.as_ref().is_some_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
        }) {
            section.error(
                "upstream",
                "is not the URL of a server",
                "give https://api.openai.com, to which /v1/… is appended",
            );
        }
        if upstream
            .as_ref()
            .is_some_and(|url| !url.username().is_empty() || url.password().is_some())
        {
            section.error(
                "upstream",
                "holds a password",
                "keys come with the calls: leave it out",
            );
        }
        let host = upstream
            .as_ref()
            .and_then(Url::host_str)
            .unwrap_or_default()
            .to_owned();
        let by_host = HOSTS
            .iter()
            .filter(|(end, _)| host == *end || host.ends_with(&format!(".{end}")))
            .max_by_key(|(end, _)| end.len());
        let by_host = by_host.map_or(host.clone(), |(_, provider)| (*provider).to_owned());
        let header = |key: &str| {
            let name = section.get::<String>(key)?;
            let read = name.parse::<HeaderName>();
            if read.is_err() {
                section.error(
                    key,
                    format!("{name:?} is no name of a header"),
                    "give X-Application, for example",
                );
            }
            read.ok()
        };
        let tls = section
            .section("tls_config")
            .map(|tls| TlsConfig::read(&tls))
            .unwrap_or_default();
        let relay = Relay::build(&tls, section.or("silence", SILENCE))
            .map_err(|error| section.error("tls_config", error.to_string(), "check the files"));
        let block = section.section("budget");
        let mut budget = BTreeMap::new();
        let (mut currency, mut refuses) = ("USD".to_owned(), false);
        if let Some(block) = block {
            for period in Period::ALL {
                let Some(amount) = block.get::<f64>(period.as_str()) else {
                    continue;
                };
                if !(amount > 0.0 && amount.is_finite()) {
                    block.error(
                        period.as_str(),
                        "is no amount of money",
                        "give the units of the currency that may be spent",
                    );
                }
                budget.insert(period.as_str(), amount);
            }
            if budget.is_empty() {
                block.error(
                    "",
                    "says neither day nor month",
                    "give budget: {day: 20, month: 300, currency: USD}",
                );
            }
            currency = block.or("currency", currency);
            refuses = block.or("refuse", false);
            block.finish();
        }
        Settings {
            upstream,
            provider: section.or("provider", by_host),
            caller_header: header("caller_header"),
            agent_header: header("agent_header"),
            token: section.secret_source("token"),
            is_open: section.or("open", false),
            is_plain: section.or("plain", false),
            budget,
            currency,
            refuses,
            calls: gen_ai::Settings::read(section),
            relay: relay.ok(),
        }
    }

    /// Where a call goes; `None` for a path that leads out of the upstream's.
    pub fn target(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let is_sound = |segment: &str| {
            !matches!(
                segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
                "." | ".."
            )
        };
        if !path.split(['/', '\\']).all(is_sound) {
            return None;
        }
        let base = self.upstream.as_ref()?;
        let mut url = base.clone();
        url.set_path(&format!(
            "{}/{}",
            base.path().trim_end_matches('/'),
            path.trim_start_matches('/')
        ));
        url.set_query(query);
        Some(url)
    }
}
