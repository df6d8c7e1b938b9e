//! Writes the delimited protobuf format, so that a fake target can serve what a client library
//! would.

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub struct Proto(pub Vec<u8>);

/// `MetricType`.
pub const COUNTER: u64 = 0;
pub const GAUGE: u64 = 1;
pub const SUMMARY: u64 = 2;
pub const UNTYPED: u64 = 3;
pub const HISTOGRAM: u64 = 4;
pub const GAUGE_HISTOGRAM: u64 = 5;

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

impl Proto {
    pub fn new() -> Self {
        Proto::default()
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn uint(mut self, field: u64, number: u64) -> Self {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    pub fn sint(self, field: u64, number: i64) -> Self {
        self.uint(field, zigzag(number))
    }

    pub fn double(mut self, field: u64, number: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Proto) -> Self {
        self.bytes(field, &message.0)
    }

    /// `repeated sint64`, packed.
    pub fn sints(self, field: u64, numbers: &[i64]) -> Self {
        let mut packed = Proto::new();
        numbers
            .iter()
            .for_each(|number| packed.varint(zigzag(*number)));
        self.message(field, &packed)
    }

    /// A `LabelPair`, as field 1 of a metric.
    pub fn label(self, name: &str, value: &str) -> Self {
        self.message(1, &Proto::new().text(1, name).text(2, value))
    }

    /// A `BucketSpan`.
    pub fn span(self, field: u64, offset: i64, length: u64) -> Self {
        self.message(field, &Proto::new().sint(1, offset).uint(2, length))
    }

    /// A classic `Bucket`, as field 3 of a histogram.
    pub fn bucket(self, bound: f64, count: u64) -> Self {
        self.message(3, &Proto::new().uint(1, count).double(2, bound))
    }
}

/// A family of metrics, after its length.
pub fn family(name: &str, help: &str, kind: u64, metrics: &[Proto]) -> Vec<u8> {
    let head = Proto::new().text(1, name).text(2, help).uint(3, kind);
    delimited(
        &metrics
            .iter()
            .fold(head, |family, metric| family.message(4, metric)),
    )
}

/// A message after its length.
pub fn delimited(message: &Proto) -> Vec<u8> {
    let mut out = Proto::new();
    out.varint(message.0.len() as u64);
    out.0.extend_from_slice(&message.0);
    out.0
}

/// A native histogram of integers: 2 observations in the zero bucket, 3, 5, 0 and 4 above, 1 below;
/// with or without classic buckets.
pub fn integer_histogram(classic: bool) -> Proto {
    let exemplar = Proto::new()
        .label("trace_id", "abc")
        .double(2, 0.7)
        .message(3, &Proto::new().uint(1, 1_700_000_000));
    let native = Proto::new()
        .uint(1, 15)
        .double(2, 20.5)
        .sint(5, 1)
        .double(6, 0.001)
        .uint(7, 2);
    let native = native
        .span(9, -1, 1)
        .sints(10, &[1])
        .span(12, 0, 2)
        .span(12, 1, 2)
        .sint(13, 3)
        .sint(13, 2)
        .sints(13, &[-5, 4]);
    let native = native.message(16, &exemplar);
    if classic {
        native.bucket(1.0, 5).bucket(2.5, 11)
    } else {
        native
    }
}

/// A native histogram of floats.
pub fn float_histogram() -> Proto {
    let native = Proto::new()
        .double(4, 7.5)
        .double(2, f64::NAN)
        .sint(5, -1)
        .double(6, 1e-9)
        .double(8, 0.5);
    native
        .span(12, 3, 2)
        .double(14, 2.5)
        .bytes(14, &4.5_f64.to_le_bytes())
}

/// One page with everything that the format can say.
pub fn everything() -> Vec<u8> {
    let counter = Proto::new()
        .label("code", "200")
        .message(3, &Proto::new().double(1, 1027.0));
    let escaped = Proto::new()
        .label("code", "a\"b\\c\nd")
        .label("empty", "")
        .message(3, &Proto::new().double(1, f64::NAN));
    let gauge = Proto::new().message(2, &Proto::new().double(1, f64::NEG_INFINITY));
    let untyped = Proto::new()
        .label("utf8.name", "ü")
        .message(5, &Proto::new().double(1, 12.75));
    let quantile = |at: f64, value: f64| Proto::new().double(1, at).double(2, value);
    let summary = Proto::new()
        .uint(1, 3)
        .double(2, 17.5)
        .message(3, &quantile(0.5, 2.0))
        .message(3, &quantile(1.0, 9.5));
    let summary = Proto::new().label("service", "db").message(4, &summary);
    let classic = Proto::new()
        .uint(1, 9)
        .double(2, 33.5)
        .bucket(0.1, 2)
        .bucket(5.0, 7);
    let infinite = Proto::new()
        .uint(1, 4)
        .double(2, 1.0)
        .bucket(1.0, 1)
        .bucket(f64::INFINITY, 4);
    let observed =
        |path: &str, histogram: &Proto| Proto::new().label("path", path).message(7, histogram);
    [
        family(
            "requests_total",
            "Requests \"served\",\nby code.",
            COUNTER,
            &[counter, escaped],
        ),
        family("depth", "", GAUGE, &[gauge]),
        family("dotted.name", "A name in UTF-8.", UNTYPED, &[untyped]),
        family("rpc_seconds", "", SUMMARY, &[summary]),
        family(
            "classic_seconds",
            "",
            HISTOGRAM,
            &[observed("/", &classic), observed("/x", &infinite)],
        ),
        family(
            "native_seconds",
            "",
            HISTOGRAM,
            &[
                observed("/", &integer_histogram(false)),
                observed("/both", &integer_histogram(true)),
            ],
        ),
        family(
            "float_seconds",
            "",
            HISTOGRAM,
            &[observed("/", &float_histogram())],
        ),
        family(
            "queue_seconds",
            "",
            GAUGE_HISTOGRAM,
            &[observed("/", &integer_histogram(false))],
        ),
        family(
            "stack_seconds",
            "",
            GAUGE_HISTOGRAM,
            &[observed("/c", &classic)],
        ),
        family("nothing", "Without metrics.", GAUGE, &[]),
    ]
    .concat()
}
