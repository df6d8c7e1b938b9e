//! The same plot as PNG (<https://www.w3.org/TR/png-3/>), for services that show no SVG: sixteen
//! colours, no text but the numbers of the axes, drawn with a font of three by five points.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::svg::{BOTTOM, HEIGHT, LEFT, Plot, RIGHT, Scale, TOP, WIDTH, clock, short, thin};
use crate::model::Timestamp;

const COLUMNS: usize = WIDTH as usize;
const ROWS: usize = HEIGHT as usize;

/// Colours by their index.
const PALETTE: [[u8; 3]; 6] = [
    [255, 255, 255],
    [225, 225, 225],
    [96, 96, 96],
    [251, 226, 226],
    [217, 63, 63],
    [59, 130, 246],
];
const GRID: u8 = 1;
const TEXT: u8 = 2;
const SPAN: u8 = 3;
const LIMIT: u8 = 4;
const LINE: u8 = 5;

/// Least width of a span, in points.
const LEAST_SPAN: f64 = 4.0;

/// The characters that axes need: five rows of three points, the leftmost point first.
const FONT: [(char, [u8; 5]); 18] = [
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 7, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 2, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('.', [0, 0, 0, 0, 2]),
    ('-', [0, 0, 7, 0, 0]),
    (':', [0, 2, 0, 2, 0]),
    ('e', [7, 5, 7, 4, 7]),
    ('k', [4, 5, 6, 5, 5]),
    ('M', [5, 7, 7, 5, 5]),
    ('G', [7, 4, 5, 5, 7]),
    ('T', [7, 2, 2, 2, 2]),
];

/// The picture as a file.
pub fn png(plot: &Plot<'_>) -> Vec<u8> {
    let columns = thin(plot);
    let scale = Scale::of(plot, &columns);
    let mut canvas = Canvas(vec![0; COLUMNS * ROWS]);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (begin, end) in plot.firing {
        let (x1, x2) = (scale.x(*begin).max(LEFT), scale.x(*end).min(right));
        // One that has just begun is seen, too.
        let x1 = x1.min(x2 - LEAST_SPAN).max(LEFT);
        canvas.fill((x1, TOP), (x2, bottom), SPAN);
    }
    for value in scale.ticks() {
        let (y, text) = (scale.y(value), short(value));
        canvas.fill((LEFT, y), (right, y + 1.0), GRID);
        canvas.write((LEFT - 6.0 - width(&text), y - 4.0), &text);
    }
    for share in [0, 1, 2] {
        let text = clock(
            plot,
            Timestamp(plot.from.0 + (plot.to.0 - plot.from.0) / 2 * share),
        );
        let x = LEFT + (right - LEFT - width(&text)) / 2.0 * share as f64;
        canvas.write((x, HEIGHT - 16.0), &text);
    }
    if let Some(threshold) = plot.threshold.filter(|t| t.is_finite()) {
        let y = scale.y(threshold);
        let mut x = LEFT;
        while x < right {
            canvas.fill((x, y - 0.5), ((x + 6.0).min(right), y + 1.0), LIMIT);
            x += 10.0;
        }
    }
    let mut before: Option<(Timestamp, f64, f64)> = None;
    for (at, value) in &columns {
        let (x, y) = (scale.x(*at), scale.y(*value));
        let (from_x, from_y) = before
            .filter(|(b, _, _)| at.since(*b) <= plot.gap)
            .map_or((x, y), |(_, x, y)| (x, y));
        canvas.line((from_x, from_y), (x, y));
        before = Some((*at, x, y));
    }
    encode(&canvas.0)
}

/// One index of a colour for each point, row by row.
struct Canvas(Vec<u8>);

impl Canvas {
    fn set(&mut self, x: i64, y: i64, colour: u8) {
        if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y))
            && x < COLUMNS
            && y < ROWS
        {
            self.0[y * COLUMNS + x] = colour;
        }
    }

    fn fill(&mut self, from: (f64, f64), to: (f64, f64), colour: u8) {
        for y in from.1.round() as i64..to.1.round() as i64 {
            for x in from.0.round() as i64..to.0.round() as i64 {
                self.set(x, y, colour);
            }
        }
    }

    /// Two points thick.
    fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let steps = (to.0 - from.0)
            .abs()
            .max((to.1 - from.1).abs())
            .ceil()
            .max(1.0);
        for step in 0..=steps as i64 {
            let share = step as f64 / steps;
            let (x, y) = (
                from.0 + (to.0 - from.0) * share,
                from.1 + (to.1 - from.1) * share,
            );
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                self.set(x as i64 + dx, y as i64 + dy, LINE);
            }
        }
    }

    /// Each point of a character is two by two points of the picture.
    fn write(&mut self, at: (f64, f64), text: &str) {
        for (index, character) in text.chars().enumerate() {
            let rows = FONT
                .iter()
                .find(|(c, _)| *c == character)
                .map_or([0; 5], |(_, rows)| *rows);
            for (y, row) in rows.iter().enumerate() {
                for x in (0..3usize).filter(|x| row >> (2 - x) & 1 == 1) {
                    let corner = (at.0 + (index * 8 + x * 2) as f64, at.1 + (y * 2) as f64);
                    self.fill(corner, (corner.0 + 2.0, corner.1 + 2.0), TEXT);
                }
            }
        }
    }
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * 8.0 - 2.0
}

/// A PNG with a palette, eight bits a point.
fn encode(points: &[u8]) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::with_capacity(13);
    header.extend((COLUMNS as u32).to_be_bytes());
    header.extend((ROWS as u32).to_be_bytes());
    header.extend([8, 3, 0, 0, 0]);
    chunk(&mut out, b"IHDR", &header);
    chunk(&mut out, b"PLTE", PALETTE.as_flattened());
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in points.chunks(COLUMNS) {
        // Each row begins with its filter: none.
        rows.write_all(&[0])
            .and_then(|()| rows.write_all(row))
            .expect("writing to memory cannot fail");
    }
    chunk(
        &mut out,
        b"IDAT",
        &rows.finish().expect("writing to memory cannot fail"),
    );
    chunk(&mut out, b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(kind);
    out.extend(data);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(kind);
    checksum.update(data);
    out.extend(checksum.finalize().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use super::*;

    fn drawn(points: &[(Timestamp, f64)], threshold: Option<f64>) -> Vec<u8> {
        let firing = [(Timestamp(3_000_000), Timestamp(3_600_000))];
        let (from, to) = (Timestamp(0), Timestamp(3_600_000));
        png(&Plot {
            title: "",
            from,
            to,
            points,
            gap: Duration::from_secs(120),
            utc_offset: 0,
            threshold,
            firing: &firing,
        })
    }

    /// The indices of the picture's points, read back.
    fn pixels(file: &[u8]) -> Vec<u8> {
        let start = file.windows(4).position(|w| w == b"IDAT").expect("data") + 4;
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&file[start..])
            .read_to_end(&mut rows)
            .expect("zlib");
        rows.chunks(COLUMNS + 1)
            .flat_map(|row| row[1..].to_vec())
            .collect()
    }

    /// Below 30 KB. Line, threshold, firing span and numbers are all there.
    #[test]
    fn a_picture_is_small_and_shows_everything() {
        let points: Vec<(Timestamp, f64)> = (0..61)
            .map(|i| (Timestamp(i * 60_000), ((i * 7919) % 100) as f64))
            .collect();
        let file = drawn(&points, Some(50.0));
        assert!(
            file.starts_with(b"\x89PNG") && file.len() < 30_000,
            "{}",
            file.len()
        );
        let pixels = pixels(&file);
        assert_eq!(pixels.len(), COLUMNS * ROWS);
        for colour in [GRID, TEXT, SPAN, LIMIT, LINE] {
            assert!(
                pixels.iter().filter(|p| **p == colour).count() > 50,
                "colour {colour}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn no_value_breaks_the_picture(values in proptest::collection::vec((0i64..4_000_000, any::<f64>()), 0..50), threshold in any::<f64>()) {
            let mut points: Vec<(Timestamp, f64)> = values.into_iter().map(|(at, v)| (Timestamp(at), v)).collect();
            points.sort_by_key(|(at, _)| *at);
            prop_assert!(pixels(&drawn(&points, Some(threshold))).len() == COLUMNS * ROWS);
        }
    }
}
