//! Random expressions: every operator, modifier, aggregation and function, over names that exist,
//! and some that do not.

use super::data::START;
use super::random::Random;

const RANGE_FUNCTIONS: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "deriv",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
    "mad_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "ts_of_last_over_time",
];

const VECTOR_FUNCTIONS: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "sgn",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "deg",
    "rad",
    "round",
    "timestamp",
    "absent",
    "hour",
    "minute",
    "day_of_week",
    "day_of_year",
    "day_of_month",
    "month",
    "year",
    "days_in_month",
    "sort",
    "sort_desc",
    "-",
    "+",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
];

const MATCHINGS: &[&str] = &[
    "",
    "on (job) ",
    "on (job, instance) ",
    "ignoring (instance) ",
    "ignoring (le) ",
    "on (job) group_left ",
    "on (job) group_right ",
    "on (job) group_left (kind) ",
    "on (job) group_right (kind, instance) ",
    "ignoring (instance) group_right ",
    "on (instance) ",
    "on () ",
    "ignoring (kind) group_left (instance) ",
    "ignoring (instance, kind) group_left () ",
    "on (job, instance) group_left (version) ",
    "on (\"job\") group_left (\"host.name\") ",
];

/// Draws expressions.
pub struct Generator<'a> {
    /// What it chooses with.
    pub random: &'a mut Random,
}

impl Generator<'_> {
    fn duration(&mut self) -> String {
        match self.random.below(14) {
            0 => self
                .random
                .pick(&["300", "90", "0x3c", "1e2", "1m30s", "100ms", "1h"])
                .into(),
            1 => self
                .random
                .pick(&[
                    "(1m + 30s)",
                    "(2 * 1m)",
                    "(10m / 4)",
                    "(1h % 7m)",
                    "(2 ^ 7)",
                    "(5m - 1s * 10)",
                ])
                .into(),
            _ => self
                .random
                .pick(&["30s", "1m", "2m", "5m", "7m30s", "20m", "1s", "90s"])
                .into(),
        }
    }

    fn selector(&mut self) -> String {
        let name = self.random.pick(&[
            "requests_total",
            "errors_total",
            "temp",
            "limit",
            "lone",
            "odd",
            "lat_bucket",
            "nothing",
            "small",
            "target_info",
            "häufig",
            "nh",
            "nh",
            "nh_gauge",
            "nh_custom",
            "mixed",
            "both",
            "",
        ]);
        let matchers = self.random.pick(&[
            "",
            "",
            "",
            "",
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{instance=~\"0|1\"}",
            "{instance!~\"0.*\"}",
            "{job=~\".+\"}",
            "{instance=\"\"}",
            "{job=\"db\",instance=\"1\"}",
            "{kind=~\"x|\"}",
            "{job=~\"a.*\",job!~\"d.*\"}",
            "{\"job\"=\"api\"}",
            "{job='db',}",
        ]);
        match name {
            "" => self
                .random
                .pick(&[
                    "{job=~\".+\",__name__=~\"temp|limit|requests_total\"}",
                    "{__name__=~\"limit|small\"}",
                    "{__name__=~\"nh|nh_custom\"}",
                    "{__name__=~\"limit|nh\"}",
                ])
                .into(),
            "häufig" => self
                .random
                .pick(&[
                    "{\"häufig.keit\"}",
                    "{\"häufig.keit\",\"host.name\"!=\"1\"}",
                    "{__name__=\"häufig.keit\",job=\"db\"}",
                ])
                .into(),
            name => format!("{name}{matchers}"),
        }
    }

    fn modifiers(&mut self) -> String {
        let mut at = String::new();
        if self.random.chance(12) {
            let time = format!(
                "{}{}",
                START / 1000 + 600 + self.random.below(2400) as i64,
                self.random.pick(&["", ".5", ".001"])
            );
            at = format!(" @ {}", self.random.pick(&["start()", "end()", &time]));
        }
        if self.random.chance(15) {
            let length = self
                .random
                .pick(&["30s", "1m", "2m", "5m", "90", "1s", "7m30s"]);
            let offset = format!(" offset {}{length}", self.random.pick(&["", "-"]));
            return if self.random.chance(50) {
                at + &offset
            } else {
                offset + &at
            };
        }
        at
    }

    fn range(&mut self, depth: usize) -> String {
        let (range, modifiers) = (self.duration(), self.modifiers());
        if depth > 0 && self.random.chance(25) {
            let step = self.random.pick(&["", "10s", "1m", "45s", "7s", "30"]);
            return format!("({})[{range}:{step}]{modifiers}", self.vector(depth - 1));
        }
        format!("{}[{range}]{modifiers}", self.selector())
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.random.below(12) {
            0 => self
                .random
                .pick(&["time()", "pi()", "(time() % 7)", "(time() / 60 % 5)"])
                .into(),
            1 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            2 => "NaN".into(),
            3 => self.random.pick(&["Inf", "-Inf"]).into(),
            4 => self.random.pick(&["-1.5", "-1", "-0"]).into(),
            5 if depth > 0 => {
                let op = self.random.pick(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "> bool", "== bool", "!= bool",
                ]);
                format!(
                    "({} {op} {})",
                    self.scalar(depth - 1),
                    self.scalar(depth - 1)
                )
            }
            6 => self
                .random
                .pick(&["5m", "0x1F", "017", "1_000", ".5", "1e3"])
                .into(),
            _ => self
                .random
                .pick(&["0", "1", "2", "3", "0.5", "0.9", "10", "100"])
                .into(),
        }
    }

    fn grouping(&mut self) -> &'static str {
        self.random.pick(&[
            "",
            "",
            "by (job) ",
            "by (instance) ",
            "without (instance) ",
            "by (job, instance) ",
            "by (__name__) ",
            "without () ",
            "by () ",
            "by (\"host.name\", job) ",
            "without (le, job) ",
        ])
    }

    /// What has an order of its own: Prometheus gives out the rest in the random order of a map, so
    /// that ties cannot be compared.
    fn ordered(&mut self) -> String {
        if self.random.chance(50) {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        format!(
            "{}({}[{}]{})",
            self.random.pick(RANGE_FUNCTIONS),
            self.selector(),
            self.duration(),
            self.modifiers()
        )
    }

    fn aggregation(&mut self, d: usize) -> String {
        match self.random.below(8) {
            0 => {
                let op = self
                    .random
                    .pick(&["topk", "bottomk", "limitk", "limit_ratio"]);
                format!(
                    "{op} {}({}, {})",
                    self.grouping(),
                    self.scalar(d),
                    self.ordered()
                )
            }
            1 => format!(
                "quantile {}({}, {})",
                self.grouping(),
                self.scalar(d),
                self.vector(d)
            ),
            2 => {
                let label = self.random.pick(&["v", "job", "ü"]);
                format!(
                    "count_values {}(\"{label}\", {})",
                    self.grouping(),
                    self.vector(d)
                )
            }
            _ => {
                let op = self.random.pick(&[
                    "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
                ]);
                if self.random.chance(20) {
                    return format!("{op}({}) {}", self.vector(d), self.grouping());
                }
                format!("{op} {}({})", self.grouping(), self.vector(d))
            }
        }
    }

    fn binary(&mut self, d: usize) -> String {
        match self.random.below(5) {
            0 | 1 => {
                let op = self.random.pick(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=",
                    "> bool", "== bool", "<= bool",
                ]);
                let (scalar, vector) = (self.scalar(d), self.vector(d));
                if self.random.chance(50) {
                    format!("({vector} {op} {scalar})")
                } else {
                    format!("({scalar} {op} {vector})")
                }
            }
            2 | 3 => {
                let op = self.random.pick(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "> bool",
                    "!= bool",
                ]);
                format!(
                    "({} {op} {}{})",
                    self.vector(d),
                    self.random.pick(MATCHINGS),
                    self.vector(d)
                )
            }
            _ => {
                let op = self.random.pick(&["and", "or", "unless"]);
                let matching = self.random.pick(&[
                    "",
                    "on (job) ",
                    "ignoring (instance) ",
                    "on () ",
                    "on (instance) ",
                    "ignoring () ",
                ]);
                format!("({} {op} {matching}{})", self.vector(d), self.vector(d))
            }
        }
    }

    fn histogram(&mut self, d: usize) -> String {
        let buckets = match self.random.below(9) {
            6 => self
                .random
                .pick(&["nh", "nh_custom", "both", "{__name__=~\"nh|lat_bucket\"}"])
                .to_owned(),
            7 => self
                .random
                .pick(&[
                    "rate(nh[5m])",
                    "sum by (job) (rate(nh[7m]))",
                    "sum(nh_gauge)",
                    "avg(increase(nh[5m]))",
                ])
                .to_owned(),
            0 => "lat_bucket".to_owned(),
            1 => "rate(lat_bucket[5m])".to_owned(),
            2 => "sum by (le, job) (rate(lat_bucket[5m]))".to_owned(),
            3 => "sum by (le) (lat_bucket)".to_owned(),
            4 => format!("lat_bucket{}", self.modifiers()),
            _ => self.vector(d),
        };
        match self.random.below(3) {
            0 => format!(
                "histogram_fraction({}, {}, {buckets})",
                self.scalar(d),
                self.scalar(d)
            ),
            _ => format!("histogram_quantile({}, {buckets})", self.scalar(d)),
        }
    }

    fn labels(&mut self, d: usize) -> String {
        match self.random.below(5) {
            0 => {
                let target = self.random.pick(&["z", "job", "__name__", "ü", ""]);
                let sources = self.random.pick(&[
                    "",
                    ", \"job\"",
                    ", \"job\", \"instance\"",
                    ", \"nothing\", \"__name__\"",
                ]);
                format!(
                    "label_join({}, \"{target}\", \"-\"{sources})",
                    self.vector(d)
                )
            }
            1 => {
                let desc = self.random.pick(&["", "_desc"]);
                let names = self.random.pick(&[
                    "\"version\"",
                    "\"job\"",
                    "\"instance\", \"job\"",
                    "\"nothing\"",
                    "\"__name__\"",
                ]);
                format!("sort_by_label{desc}({}, {names})", self.vector(d))
            }
            _ => {
                let target = self
                    .random
                    .pick(&["z", "job", "instance", "__name__", "höhe", ""]);
                let replacement = self
                    .random
                    .pick(&["$1", "x", "", "${1}y$$", "$name", "${n}-$0", "$1x"]);
                let pattern = self.random.pick(&[
                    "(.*)",
                    "(a).*",
                    "db",
                    "(.+)",
                    "(?P<n>d).*",
                    "",
                    "(?i:API)",
                    "[",
                    "a|d(b)",
                ]);
                let source = self
                    .random
                    .pick(&["job", "job", "instance", "nothing", "__name__"]);
                format!(
                    "label_replace({}, \"{target}\", \"{replacement}\", \"{source}\", \"{pattern}\")",
                    self.vector(d)
                )
            }
        }
    }

    /// Any query: mostly instant vectors, some scalars and range vectors.
    pub fn query(&mut self, depth: usize) -> String {
        match self.random.below(20) {
            0 => self.scalar(depth),
            1 => self.range(depth),
            _ => self.vector(depth),
        }
    }

    /// An instant vector whose tree has about `depth` levels.
    pub fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        let d = depth - 1;
        match self.random.below(22) {
            0..=4 => format!(
                "{}({})",
                self.random.pick(RANGE_FUNCTIONS),
                self.range(depth)
            ),
            5 => format!(
                "quantile_over_time({}, {})",
                self.scalar(d),
                self.range(depth)
            ),
            6 => format!("predict_linear({}, {})", self.range(depth), self.scalar(d)),
            7 => format!(
                "double_exponential_smoothing({}, 0.{}, 0.{})",
                self.range(d),
                1 + self.random.below(8),
                self.random.below(9)
            ),
            8..=11 => self.aggregation(d),
            12..=15 => self.binary(d),
            16 | 17 => {
                let function = self.random.pick(VECTOR_FUNCTIONS);
                if self.random.chance(10)
                    && ["hour", "minute", "month", "year", "day_of_week"].contains(&function)
                {
                    return format!("{function}()");
                }
                let vector = if function.starts_with("sort") {
                    self.ordered()
                } else {
                    self.vector(d)
                };
                format!("{function}({vector})")
            }
            18 => match self.random.below(5) {
                0 => format!(
                    "clamp({}, {}, {})",
                    self.vector(d),
                    self.scalar(d),
                    self.scalar(d)
                ),
                1 => format!("clamp_min({}, {})", self.vector(d), self.scalar(d)),
                2 => format!("clamp_max({}, {})", self.vector(d), self.scalar(d)),
                3 => format!("round({}, {})", self.vector(d), self.scalar(d)),
                _ => format!("vector({})", self.scalar(d)),
            },
            19 | 20 => self.histogram(d),
            _ => self.labels(d),
        }
    }
}
