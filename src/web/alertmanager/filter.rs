//! What a request asks to see: `filter`, `active`, `silenced`, `inhibited`, `muted`, `receiver`,
//! `receiver_matchers`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use regex::Regex;

use crate::alerting::AlertView;
use crate::alerting::config::Alerting;
use crate::alerting::config::matchers::parse_matcher;
use crate::model::Matcher;
use crate::model::matcher::anchored;

use super::answer::Problem;
use crate::web::server::stream::query_of;

/// The parameters of a request's URL. An empty one counts as absent.
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = query_of(parts);
        Ok(Parameters(
            url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        ))
    }
}

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A switch that is on unless it is turned off. What is not a word for yes means no, as in
    /// Alertmanager.
    pub fn switch(&self, name: &str) -> bool {
        const YES: [&str; 10] = [
            "true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled",
        ];
        self.get(name)
            .is_none_or(|text| YES.contains(&text.to_lowercase().as_str()))
    }

    /// Every value of `name`, a matcher each.
    pub fn matchers(&self, name: &str) -> Result<Vec<Matcher>, Problem> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, text)| parse_matcher(text).map_err(Problem::bad))
            .collect()
    }
}

/// Which alerts are shown.
pub struct Filter {
    matchers: Vec<Matcher>,
    receiver: Option<Regex>,
    receiver_matchers: Vec<Matcher>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    /// Whether groups are shown that a time interval mutes.
    pub muted: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Filter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Self::read(&Parameters::from_request_parts(parts, state).await?)
    }
}

impl Filter {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let receiver = parameters.get("receiver").map(anchored).transpose();
        Ok(Filter {
            matchers: parameters.matchers("filter")?,
            receiver_matchers: parameters.matchers("receiver_matchers")?,
            receiver: receiver
                .map_err(|e| Problem::bad(format!("failed to parse receiver param: {e}")))?,
            active: parameters.switch("active"),
            silenced: parameters.switch("silenced"),
            inhibited: parameters.switch("inhibited"),
            muted: parameters.switch("muted"),
        })
    }

    /// Whether alerts for this receiver are shown.
    pub fn takes_receiver(&self, config: &Alerting, name: &str) -> bool {
        let labels = config.receiver(name).map(|receiver| &receiver.labels);
        self.receiver
            .as_ref()
            .is_none_or(|regex| regex.is_match(name))
            && self
                .receiver_matchers
                .iter()
                .all(|m| labels.is_some_and(|labels| m.matches_labels(labels)))
    }

    /// Whether this alert is shown, whatever its receiver.
    pub fn takes(&self, view: &AlertView) -> bool {
        let (silenced, inhibited) = (!view.silenced_by.is_empty(), !view.inhibited_by.is_empty());
        (self.active || silenced || inhibited)
            && (self.silenced || !silenced)
            && (self.inhibited || !inhibited)
            && self
                .matchers
                .iter()
                .all(|m| m.matches_labels(&view.alert.labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alert, Labels, Timestamp};

    fn view(silenced: bool, inhibited: bool) -> AlertView {
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "A"), ("team", "db")]),
            annotations: Labels::empty(),
            starts_at: Timestamp(0),
            ends_at: None,
            updated_at: Timestamp(0),
            generator_url: String::new(),
            value: None,
            peak: None,
            evidence: Vec::new(),
            shipped: false,
        };
        let ids = |there: bool| {
            if there {
                vec!["id".to_owned()]
            } else {
                Vec::new()
            }
        };
        AlertView {
            alert,
            receivers: vec!["r".into()],
            silenced_by: ids(silenced),
            inhibited_by: ids(inhibited),
            muted_by: Vec::new(),
            flapping: None,
        }
    }

    fn shown(query: &str, view: &AlertView) -> bool {
        let pairs = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Filter::read(&Parameters(pairs))
            .expect("a valid query")
            .takes(view)
    }

    /// SEMANTICS 189: each switch hides its kind, an empty parameter counts as absent.
    #[test]
    fn switches_hide_alerts() {
        let (active, silenced, inhibited, both) = (
            view(false, false),
            view(true, false),
            view(false, true),
            view(true, true),
        );
        let all =
            |query: &str| [&active, &silenced, &inhibited, &both].map(|view| shown(query, view));
        assert_eq!(all(""), [true; 4]);
        assert_eq!(all("active=&silenced=&unprocessed=false"), [true; 4]);
        assert_eq!(all("active=false"), [false, true, true, true]);
        assert_eq!(all("silenced=false"), [true, false, true, false]);
        assert_eq!(all("inhibited=0"), [true, true, false, false]);
        assert_eq!(
            all("active=true&inhibited=false&silenced=false&unprocessed=false"),
            [true, false, false, false]
        );
    }

    #[test]
    fn matchers_are_anded() {
        let alert = view(false, false);
        for (query, wanted) in [
            ("filter=team=db", true),
            ("filter=team%3D~%22d.%22&filter=alertname%3D%22A%22", true),
            ("filter=team=db&filter=alertname=B", false),
            ("filter=team%21%3D%22%22", true),
            ("filter=nothing%21%3D%22%22", false),
            ("filter=nothing%3D%22%22", true),
        ] {
            assert_eq!(shown(query, &alert), wanted, "{query}");
        }
        let bad = |name: &str, value: &str| {
            Filter::read(&Parameters(vec![(name.into(), value.into())])).is_err()
        };
        assert!(bad("filter", "=") && bad("receiver", "(") && !bad("receiver", "r.*"));
    }
}
