//! The usage that providers report, as tokens. What a provider counts how stands in a table.

use serde_json::Value;

use crate::collectors::gen_ai::Tokens;

/// Where a number of a usage belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Input,
    Output,
    /// Part of the input.
    CacheRead,
    CacheWrite,
    /// Beside the input, as Anthropic counts them.
    CacheReadBeside,
    CacheWriteBeside,
    /// Part of the output.
    Reasoning,
    /// Beside the output, as Gemini counts it.
    ReasoningBeside,
}

use Place::{
    CacheRead, CacheReadBeside, CacheWrite, CacheWriteBeside, Input, Output, Reasoning,
    ReasoningBeside,
};

/// Paths into a usage.
const NUMBERS: &[(&str, Place)] = &[
    ("/prompt_tokens", Input),
    ("/completion_tokens", Output),
    ("/input_tokens", Input),
    ("/output_tokens", Output),
    ("/prompt_tokens_details/cached_tokens", CacheRead),
    ("/input_tokens_details/cached_tokens", CacheRead),
    ("/prompt_cache_hit_tokens", CacheRead),
    ("/cached_tokens", CacheRead),
    ("/prompt_tokens_details/cache_creation_tokens", CacheWrite),
    ("/cache_read_input_tokens", CacheReadBeside),
    ("/cache_creation_input_tokens", CacheWriteBeside),
    ("/completion_tokens_details/reasoning_tokens", Reasoning),
    ("/output_tokens_details/reasoning_tokens", Reasoning),
    ("/promptTokenCount", Input),
    ("/candidatesTokenCount", Output),
    ("/cachedContentTokenCount", CacheRead),
    ("/thoughtsTokenCount", ReasoningBeside),
];

/// The tokens of a call from all the usages in its answer: each is a sum so far, and later ones may
/// leave out what was said before.
pub fn tokens(usages: &[Vec<u8>]) -> Tokens {
    let mut most = [0_u64; 8];
    for usage in usages
        .iter()
        .filter_map(|usage| serde_json::from_slice::<Value>(usage).ok())
    {
        for (path, place) in NUMBERS {
            let count = usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
            let sum = &mut most[*place as usize];
            *sum = count.max(*sum);
        }
    }
    let of = |place: Place| most[place as usize];
    let beside = of(CacheReadBeside).saturating_add(of(CacheWriteBeside));
    // Gateways report both forms of the same number.
    let is_beside = of(CacheRead) == 0 && beside > 0;
    let read = of(CacheRead).max(of(CacheReadBeside));
    let write = of(CacheWrite).max(of(CacheWriteBeside));
    let input = if is_beside {
        of(Input).saturating_add(beside)
    } else {
        of(Input)
    };
    Tokens([
        input,
        of(Output).saturating_add(of(ReasoningBeside)),
        read,
        write,
        of(Reasoning).saturating_add(of(ReasoningBeside)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usages_of_all_providers_become_the_same_tokens() {
        let of = |usages: &[&str]| {
            tokens(
                &usages
                    .iter()
                    .map(|usage| usage.as_bytes().to_vec())
                    .collect::<Vec<_>>(),
            )
            .0
        };
        assert_eq!(
            of(&[
                r#"{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":60},"completion_tokens_details":{"reasoning_tokens":5}}"#
            ]),
            [100, 20, 60, 0, 5]
        );
        assert_eq!(
            of(&[
                r#"{"input_tokens":10,"cache_read_input_tokens":50,"cache_creation_input_tokens":40,"output_tokens":1}"#,
                r#"{"output_tokens":20}"#
            ]),
            [100, 20, 50, 40, 0]
        );
        assert_eq!(
            of(&[r#"{"prompt_tokens":100,"completion_tokens":20,"prompt_cache_hit_tokens":60}"#]),
            [100, 20, 60, 0, 0]
        );
        assert_eq!(
            of(&[r#"{"promptTokenCount":100,"candidatesTokenCount":15,"thoughtsTokenCount":5}"#]),
            [100, 20, 0, 0, 5]
        );
        assert_eq!(
            of(&[
                "null",
                "{",
                r#"{"prompt_tokens":-1}"#,
                r#"{"prompt_tokens":"7"}"#
            ]),
            [0; 5]
        );
    }
}
