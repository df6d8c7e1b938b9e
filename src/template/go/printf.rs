//! Go's `fmt.Sprintf` for the values of a template (<https://pkg.go.dev/fmt>). Refused: argument
//! indexes (`%[1]d`).

use gotmpl::Value;

use super::call::{Context, Fault, misuse};
use super::typed;
use crate::model::text::{format_float_g, go_exponent, quote};
use crate::template::MAX_OUTPUT;

/// Widest field and most digits.
const MAX_WIDTH: usize = 10_000;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The text of `form` with `args` put in.
pub(in crate::template) fn printf(
    context: &Context,
    form: &str,
    args: &[Value],
) -> Result<String, Fault> {
    let mut out = String::with_capacity(form.len() + 16);
    let mut rest = form.chars().peekable();
    let mut args_left = args.iter();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            rest.next();
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
                          spec: &mut Spec|
         -> Option<usize> {
            if rest.next_if_eq(&'*').is_some() {
                let given = args_left.next().and_then(typed::as_integer).unwrap_or(0);
                spec.minus |= given < 0;
                return usize::try_from(given.unsigned_abs())
                    .ok()
                    .map(|n| n.min(MAX_WIDTH));
            }
            let mut number = None;
            while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                number = Some((number.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
                rest.next();
            }
            number
        };
        spec.width = number(&mut rest, &mut spec);
        if rest.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut rest, &mut spec).unwrap_or(0));
        }
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args_left.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(arg) => {
                    let written = spec.written(context, verb, arg)?;
                    out.push_str(&written);
                }
            },
        }
        if out.len() > MAX_OUTPUT {
            return misuse("a text is longer than 1048576 bytes");
        }
    }
    let extra: Vec<&Value> = args_left.collect();
    if !extra.is_empty() {
        let mut parts = Vec::with_capacity(extra.len());
        for arg in extra {
            parts.push(match arg {
                Value::Nil => "<nil>".to_owned(),
                arg => format!("{}={}", context.type_of(arg), context.shown(arg)?),
            });
        }
        out.push_str(&format!("%!(EXTRA {})", parts.join(", ")));
    }
    Ok(out)
}

impl Spec {
    fn written(&self, context: &Context, verb: char, arg: &Value) -> Result<String, Fault> {
        let bad = || -> Result<String, Fault> {
            Ok(match arg {
                Value::Nil => format!("%!{verb}(<nil>)"),
                arg => format!("%!{verb}({}={})", context.type_of(arg), context.shown(arg)?),
            })
        };
        if verb == 'T' {
            return Ok(self.padded(&if matches!(arg, Value::Nil) {
                "<nil>".into()
            } else {
                context.type_of(arg)
            }));
        }
        // What has a text of its own gives it to the verbs of texts, and its number to those of
        // numbers.
        let number = typed::as_integer(arg);
        let own_text = match arg {
            Value::String(s) | Value::Safe { s, .. } => Some(s.to_string()),
            Value::Map(_)
                if typed::kind(arg).is_none_or(|kind| kind.starts_with("time.")) && verb != 'd' =>
            {
                Some(context.shown(arg)?)
            }
            _ => None,
        };
        match (verb, arg) {
            ('v' | 's' | 'q' | 'x' | 'X', _) if own_text.is_some() => {
                let written = own_text.unwrap_or_default();
                Ok(match verb {
                    'q' => self.padded(&quote(&self.cut(&written))),
                    'x' | 'X' => {
                        let digits: String = written
                            .bytes()
                            .map(|b| {
                                if verb == 'x' {
                                    format!("{b:02x}")
                                } else {
                                    format!("{b:02X}")
                                }
                            })
                            .collect();
                        self.padded(&digits)
                    }
                    _ if self.sharp && verb == 'v' => self.padded(&quote(&written)),
                    _ => self.padded(&self.cut(&written)),
                })
            }
            ('v' | 't', Value::Bool(value)) => {
                Ok(self.padded(if *value { "true" } else { "false" }))
            }
            ('v', Value::Float(value)) => Ok(self.number(&self.float(*value, 'g'))),
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(value)) => {
                Ok(self.number(&self.float(*value, verb)))
            }
            ('v' | 'd', _) if number.is_some() => {
                Ok(self.integer(number.unwrap_or(0), |n| n.to_string()))
            }
            ('x', _) if number.is_some() => {
                Ok(self.integer(number.unwrap_or(0), |n| format!("{n:x}")))
            }
            ('X', _) if number.is_some() => {
                Ok(self.integer(number.unwrap_or(0), |n| format!("{n:X}")))
            }
            ('o', _) if number.is_some() => {
                Ok(self.integer(number.unwrap_or(0), |n| format!("{n:o}")))
            }
            ('b', _) if number.is_some() => {
                Ok(self.integer(number.unwrap_or(0), |n| format!("{n:b}")))
            }
            ('c', _) if number.is_some() => {
                let c = number
                    .and_then(|n| u32::try_from(n).ok())
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                Ok(self.padded(&c.to_string()))
            }
            ('q', _) if number.is_some() => {
                let c = number
                    .and_then(|n| u32::try_from(n).ok())
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                Ok(self.padded(&format!("'{c}'")))
            }
            ('U', _) if number.is_some() => {
                Ok(self.padded(&format!("U+{:04X}", number.unwrap_or(0))))
            }
            ('v', Value::Nil) => Ok(self.padded("<nil>")),
            ('v' | 's', Value::List(_)) if typed::kind(list_head(arg)) == Some(typed::PAIR) => {
                Ok(self.padded(&context.shown(arg)?))
            }
            (_, Value::List(items)) => {
                let parts: Result<Vec<String>, Fault> = items
                    .iter()
                    .map(|item| self.written(context, verb, item))
                    .collect();
                Ok(format!("[{}]", parts?.join(" ")))
            }
            (_, Value::Map(_))
                if typed::kind(arg) == Some(typed::DICT) || typed::kind(arg).is_none() =>
            {
                let entries = typed::entries(arg).into_iter();
                let parts: Result<Vec<String>, Fault> = entries
                    .map(|(name, value)| {
                        Ok(format!(
                            "{}:{}",
                            self.written(context, verb, &crate::template::text(name))?,
                            self.written(context, verb, value)?
                        ))
                    })
                    .collect();
                Ok(format!("map[{}]", parts?.join(" ")))
            }
            ('v' | 's', Value::Map(_)) => {
                let parts: Result<Vec<String>, Fault> = typed::entries(arg)
                    .into_iter()
                    .map(|(_, value)| self.written(context, verb, value))
                    .collect();
                Ok(format!("{{{}}}", parts?.join(" ")))
            }
            _ => bad(),
        }
    }

    fn cut(&self, written: &str) -> String {
        self.precision.map_or_else(
            || written.to_owned(),
            |most| written.chars().take(most).collect(),
        )
    }

    fn padded(&self, written: &str) -> String {
        let missing = self
            .width
            .unwrap_or(0)
            .saturating_sub(written.chars().count());
        match (self.minus, self.zero) {
            (true, _) => format!("{written}{}", " ".repeat(missing)),
            (false, true) => format!("{}{written}", "0".repeat(missing)),
            (false, false) => format!("{}{written}", " ".repeat(missing)),
        }
    }

    /// A number that carries its sign, padded; zeros go between the sign and the digits.
    fn number(&self, written: &str) -> String {
        let (sign, digits) = match written.as_bytes().first() {
            Some(b'-') => ("-", &written[1..]),
            Some(b'+') if !self.plus => {
                if self.space {
                    (" ", &written[1..])
                } else {
                    (
                        "",
                        if written == "+Inf" {
                            written
                        } else {
                            &written[1..]
                        },
                    )
                }
            }
            Some(b'+') => ("+", &written[1..]),
            _ if self.plus => ("+", written),
            _ if self.space => (" ", written),
            _ => ("", written),
        };
        let finite = digits.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if self.zero && !self.minus && finite {
            let missing = self
                .width
                .unwrap_or(0)
                .saturating_sub(digits.len() + sign.len());
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        let plain = Spec {
            zero: false,
            width: self.width,
            minus: self.minus,
            ..Spec::default()
        };
        plain.padded(&format!("{sign}{digits}"))
    }

    fn integer(&self, number: i64, digits: fn(u64) -> String) -> String {
        let mut written = digits(number.unsigned_abs());
        if let Some(least) = self.precision {
            written = format!(
                "{}{written}",
                "0".repeat(least.saturating_sub(written.len()))
            );
        }
        self.number(&if number < 0 {
            format!("-{written}")
        } else {
            written
        })
    }

    fn float(&self, value: f64, verb: char) -> String {
        if value.is_nan() {
            return "NaN".into();
        }
        if value.is_infinite() {
            return if value > 0.0 {
                "+Inf".into()
            } else {
                "-Inf".into()
            };
        }
        match (verb, self.precision) {
            ('f' | 'F', precision) => format!("{value:.*}", precision.unwrap_or(6)),
            ('e', precision) => go_exponent(&format!("{value:.*e}", precision.unwrap_or(6))),
            ('E', precision) => {
                go_exponent(&format!("{value:.*e}", precision.unwrap_or(6))).to_uppercase()
            }
            ('G', _) => self.float(value, 'g').to_uppercase(),
            (_, None) => format_float_g(value),
            (_, Some(precision)) => significant(value, precision.max(1)),
        }
    }
}

fn list_head(list: &Value) -> &Value {
    match list {
        Value::List(items) => items.first().unwrap_or(&Value::Nil),
        _ => &Value::Nil,
    }
}

/// Go's `%.{digits}g`.
fn significant(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |written: &str| match written.contains('.') {
        true => written
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => written.to_owned(),
    };
    if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        return go_exponent(&format!("{}e{exponent}", trimmed(mantissa)));
    }
    let decimals =
        usize::try_from(i64::try_from(digits).unwrap_or(0) - 1 - i64::from(exponent)).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}
