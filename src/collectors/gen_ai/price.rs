//! What tokens cost: a table of prices for a million tokens by the beginning of a model's name. The
//! shipped one bears the day on which it was written; `prices_file` replaces it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Document, Environment, Loader, Section};
use crate::model::Timestamp;

use super::tokens::Tokens;

/// The table inside the binary.
const SHIPPED: &str = include_str!("../../../prices.yml");
/// Most rows of a table.
const MOST: usize = 10_000;
/// Prices are for so many tokens.
const MILLION: f64 = 1e6;

/// A table of prices. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prices(Arc<Table>);

#[derive(Debug)]
struct Table {
    /// The day on which the prices were looked up.
    date: Timestamp,
    models: Vec<Row>,
}

/// The price of the models whose name begins so.
#[derive(Debug)]
struct Row {
    model: String,
    /// Only at this provider.
    provider: Option<String>,
    input: f64,
    output: f64,
    /// Of input that the provider remembered; as other input where it is not given.
    cache_read: Option<f64>,
    /// Of input that the provider is to remember, likewise.
    cache_write: Option<f64>,
    currency: String,
}

impl Row {
    fn read(section: &Section<'_>) -> Self {
        let price = |key: &str| section.get::<f64>(key);
        let row = Row {
            model: section.require("model"),
            provider: section.get("provider"),
            input: section.require("input"),
            output: section.require("output"),
            cache_read: price("cache_read"),
            cache_write: price("cache_write"),
            currency: section.or("currency", "USD".to_owned()),
        };
        let prices = [
            Some(row.input),
            Some(row.output),
            row.cache_read,
            row.cache_write,
        ];
        if row.model.is_empty()
            || prices
                .into_iter()
                .flatten()
                .any(|price| !(price >= 0.0 && price.is_finite()))
        {
            section.error(
                "",
                "has no name or a price that is none",
                "give prices for a million tokens",
            );
        }
        section.finish();
        row
    }
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Units of the currency.
    pub amount: f64,
    /// `USD`, `CNY`.
    pub currency: String,
}

impl Default for Prices {
    fn default() -> Self {
        Prices::parse(SHIPPED).expect("a test reads the shipped table")
    }
}

impl Prices {
    /// The table that a section names, or the shipped one.
    pub fn read(section: &Section<'_>) -> Self {
        let Some(path) = section.get::<PathBuf>("prices_file") else {
            return Self::default();
        };
        let read = section
            .content(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| Self::parse(&text));
        read.unwrap_or_else(|problem| {
            let remedy = "write {date: 2026-01-31, models: [{model: gpt-4o, input: 2.5, output: 10}]}, prices for a million tokens";
            section.error("prices_file", problem, remedy);
            Self::default()
        })
    }

    /// Reads a table.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse("prices_file", text).map_err(|error| error.to_string())?;
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let table = {
            let root = loader.root();
            let date = day(&root.require::<String>("date"));
            if date.is_none() {
                root.error("date", "is no date", "write 2026-01-31");
            }
            let models: Vec<Row> = root
                .sections("models")
                .iter()
                .take(MOST + 1)
                .map(Row::read)
                .collect();
            if models.len() > MOST {
                root.error(
                    "models",
                    format!("are more than {MOST}"),
                    "leave out those that are not used",
                );
            }
            root.finish();
            Table {
                date: date.unwrap_or(Timestamp(0)),
                models,
            }
        };
        loader
            .finish(Prices(Arc::new(table)))
            .map_err(|errors| errors.to_string())
    }

    /// The day of the table.
    pub fn date(&self) -> Timestamp {
        self.0.date
    }

    /// What the tokens of a call cost: by the row with the longest name that the model's begins
    /// with.
    pub fn cost(&self, provider: &str, model: &str, tokens: &Tokens) -> Option<Cost> {
        let row = self.row(provider, model)?;
        let [input, output, read, write, _] = tokens.0.map(|count| count as f64);
        let plain = (input - read - write).max(0.0);
        let amount = plain * row.input
            + read * row.cache_read.unwrap_or(row.input)
            + write * row.cache_write.unwrap_or(row.input)
            + output * row.output;
        Some(Cost {
            amount: amount / MILLION,
            currency: row.currency.clone(),
        })
    }

    fn row(&self, provider: &str, model: &str) -> Option<&Row> {
        // Gateways put the provider before the name.
        let names = [model, model.rsplit('/').next().unwrap_or(model)];
        let fits = |row: &&Row| {
            row.provider.as_deref().is_none_or(|only| only == provider)
                && names.iter().any(|name| begins(name, &row.model))
        };
        self.0
            .models
            .iter()
            .filter(fits)
            .max_by_key(|row| (row.model.len(), row.provider.is_some()))
    }
}

/// Whether a name begins so, and goes on with a date or a variant, not with a letter or digit:
/// `gpt-4` is not `gpt-4o`.
fn begins(name: &str, start: &str) -> bool {
    name.get(..start.len())
        .is_some_and(|front| front.eq_ignore_ascii_case(start))
        && name[start.len()..]
            .chars()
            .next()
            .is_none_or(|next| matches!(next, '-' | ':' | '@' | '_' | '/'))
}

fn day(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_decides_and_parts_of_the_input_have_their_own_price() {
        let prices = Prices::parse(
            "date: 2026-01-31\nmodels:\n- {model: gpt-4o, input: 2.5, output: 10, cache_read: 1.25}\n\
             - {model: gpt-4o-mini, input: 0.15, output: 0.6}\n- {model: qwen-max, provider: dashscope, input: 2.4, output: 9.6, currency: CNY}\n",
        )
        .expect("a table");
        let tokens = Tokens([1_000_000, 100_000, 400_000, 0, 0]);
        let cost = |provider: &str, model: &str| {
            prices
                .cost(provider, model, &tokens)
                .map(|cost| (cost.amount, cost.currency))
        };
        assert_eq!(
            cost("openai", "gpt-4o-2024-08-06"),
            Some((3.0, "USD".into()))
        );
        assert_eq!(cost("openai", "openai/gpt-4o"), Some((3.0, "USD".into())));
        assert_eq!(cost("openai", "gpt-4o-mini"), Some((0.21, "USD".into())));
        assert_eq!(
            cost("dashscope", "qwen-max").map(|cost| cost.1),
            Some("CNY".into())
        );
        assert_eq!(cost("openai", "qwen-max"), None);
        assert_eq!(cost("openai", "gpt-4"), None);
        assert_eq!(cost("openai", "gpt-4oh"), None);
    }

    #[test]
    fn the_shipped_table_is_one_and_a_broken_one_is_refused() {
        assert!(Prices::default().date() > Timestamp(0));
        for wrong in [
            "",
            "date: x\nmodels: []",
            "date: 2026-01-31\nmodels: [{model: a, input: -1, output: 1}]",
            "date: 2026-01-31\nmodel: []",
        ] {
            assert!(Prices::parse(wrong).is_err(), "{wrong}");
        }
    }
}
