//! How well the clock is disciplined: `adjtimex(2)` asked with no modes, which only reads
//! (<https://man7.org/linux/man-pages/man2/adjtimex.2.html>). It never sets the clock.

use rtime_clock::adjtime::{Timex, adjtimex};

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};

/// The clock's discipline.
pub const PART: Part = Part {
    name: "timex",
    default: true,
    lane: Lane::Kernel,
    metrics: METRICS,
    read,
};

/// The kernel's fixed-point unit of frequency: parts per million in 16 fractional bits.
const PPM16: f64 = 1_000_000.0 * 65_536.0;
/// `STA_NANO`: offsets are in nanoseconds, not microseconds.
const STA_NANO: i32 = 0x2000;
/// `TIME_ERROR`: the clock is not synchronised.
const TIME_ERROR: i32 = 5;
const MICRO: f64 = 1e6;

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $unit:literal $help:literal $field:literal;)*) => {
        $(const $id: MetricDesc = $kind($name, $unit, $help, &[], $field);)*
        const METRICS: &[MetricDesc] = &[$($id),*];
    };
}

metrics! {
    ESTIMATED gauge "node_timex_estimated_error_seconds" "seconds" "Estimated error of the clock." "adjtimex(2) esterror";
    FREQUENCY gauge "node_timex_frequency_adjustment_ratio" "" "Factor by which the clock's rate is adjusted." "adjtimex(2) freq";
    CONSTANT gauge "node_timex_loop_time_constant" "" "Time constant of the phase-locked loop." "adjtimex(2) constant";
    MAX_ERROR gauge "node_timex_maxerror_seconds" "seconds" "Largest possible error of the clock." "adjtimex(2) maxerror";
    OFFSET gauge "node_timex_offset_seconds" "seconds" "Offset of the clock from its reference." "adjtimex(2) offset";
    CALIBRATIONS counter "node_timex_pps_calibration_total" "" "Calibration intervals of the pulse." "adjtimex(2) calcnt";
    ERRORS counter "node_timex_pps_error_total" "" "Calibration errors of the pulse." "adjtimex(2) errcnt";
    PULSE_FREQUENCY gauge "node_timex_pps_frequency_hertz" "hertz" "Frequency of the pulse." "adjtimex(2) ppsfreq";
    JITTER gauge "node_timex_pps_jitter_seconds" "seconds" "Jitter of the pulse." "adjtimex(2) jitter";
    JITTERS counter "node_timex_pps_jitter_total" "" "Times that the pulse's jitter went over its limit." "adjtimex(2) jitcnt";
    SHIFT gauge "node_timex_pps_shift_seconds" "seconds" "Interval of the pulse's calibration." "adjtimex(2) shift";
    EXCEEDED counter "node_timex_pps_stability_exceeded_total" "" "Times that the pulse's stability went over its limit." "adjtimex(2) stbcnt";
    STABILITY gauge "node_timex_pps_stability_hertz" "hertz" "Stability of the pulse." "adjtimex(2) stabil";
    STATUS gauge "node_timex_status" "" "Status bits of the clock's discipline." "adjtimex(2) status";
    SYNC gauge "node_timex_sync_status" "" "Whether the clock is synchronised to a reference." "adjtimex(2) return value";
    TAI gauge "node_timex_tai_offset_seconds" "seconds" "Offset of International Atomic Time." "adjtimex(2) tai";
    TICK gauge "node_timex_tick_seconds" "seconds" "Time between two ticks of the clock." "adjtimex(2) tick";
}

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut timex = Timex::new();
    let state = match adjtimex(&mut timex) {
        Ok(state) => state,
        // A container may forbid the call; the part is then not there.
        Err(_) => return Err(PartError::Absent),
    };
    let t = &timex.0;
    let divisor = if t.status & STA_NANO != 0 { 1e9 } else { MICRO };
    let values = [
        (&ESTIMATED, t.esterror as f64 / MICRO),
        (&FREQUENCY, 1.0 + t.freq as f64 / PPM16),
        (&CONSTANT, t.constant as f64),
        (&MAX_ERROR, t.maxerror as f64 / MICRO),
        (&OFFSET, t.offset as f64 / divisor),
        (&CALIBRATIONS, t.calcnt as f64),
        (&ERRORS, t.errcnt as f64),
        (&PULSE_FREQUENCY, t.ppsfreq as f64 / PPM16),
        (&JITTER, t.jitter as f64 / divisor),
        (&JITTERS, t.jitcnt as f64),
        (&SHIFT, f64::from(t.shift)),
        (&EXCEEDED, t.stbcnt as f64),
        (&STABILITY, t.stabil as f64 / PPM16),
        (&STATUS, f64::from(t.status)),
        (&SYNC, f64::from(u8::from(state != TIME_ERROR))),
        (&TAI, f64::from(t.tai)),
        (&TICK, t.tick as f64 / MICRO),
    ];
    values
        .iter()
        .for_each(|(desc, value)| context.batch.push(desc, &[], *value));
    Ok(())
}
