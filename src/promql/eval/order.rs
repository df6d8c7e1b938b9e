//! The order of what compares equal: Prometheus sorts and selects with Go's `sort.Sort` and
//! `container/heap`, which are not stable, and which series of a tie `topk` keeps is part of its
//! answer. These follow them step by step (<https://pkg.go.dev/sort>,
//! <https://pkg.go.dev/container/heap>); nothing else in the crate needs them.

/// Pushes onto a binary heap whose root is the least.
pub(in crate::promql) fn heap_push<T>(heap: &mut Vec<T>, item: T, less: &impl Fn(&T, &T) -> bool) {
    heap.push(item);
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if !less(&heap[child], &heap[parent]) {
            break;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

/// Restores the heap after its root was replaced.
pub(in crate::promql) fn heap_fix_root<T>(heap: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    sift_down(heap, 0, &|a, b| less(b, a));
}

/// Sinks `root` below children that `below` puts above it.
fn sift_down<T>(heap: &mut [T], mut root: usize, below: &impl Fn(&T, &T) -> bool) {
    loop {
        let mut child = 2 * root + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && below(&heap[child], &heap[child + 1]) {
            child += 1;
        }
        if !below(&heap[root], &heap[child]) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

/// Sorts as `sort.Sort` does: pattern-defeating quicksort. `less` need not be consistent (NaN is
/// not); the result is some permutation.
pub(in crate::promql) fn sort<T>(items: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    let limit = usize::BITS - items.len().leading_zeros();
    quicksort(items, 0, items.len(), limit, less);
}

fn quicksort<T>(
    v: &mut [T],
    mut a: usize,
    mut b: usize,
    mut limit: u32,
    less: &impl Fn(&T, &T) -> bool,
) {
    const INSERTION: usize = 12;
    let (mut balanced, mut partitioned) = (true, true);
    loop {
        let length = b - a;
        if length <= INSERTION {
            return insertion_sort(v, a, b, less);
        }
        if limit == 0 {
            return heap_sort(&mut v[a..b], less);
        }
        if !balanced {
            break_patterns(v, a, b);
            limit -= 1;
        }
        let (mut pivot, mut hint) = choose_pivot(v, a, b, less);
        if hint == Hint::Decreasing {
            v[a..b].reverse();
            pivot = (b - 1) - (pivot - a);
            hint = Hint::Increasing;
        }
        if balanced
            && partitioned
            && hint == Hint::Increasing
            && partial_insertion_sort(v, a, b, less)
        {
            return;
        }
        if a > 0 && !less(&v[a - 1], &v[pivot]) {
            a = partition_equal(v, a, b, pivot, less);
            continue;
        }
        let (middle, already) = partition(v, a, b, pivot, less);
        partitioned = already;
        let (left, right) = (middle - a, b - middle);
        balanced = left.min(right) >= length / 8;
        if left < right {
            quicksort(v, a, middle, limit, less);
            a = middle + 1;
        } else {
            quicksort(v, middle + 1, b, limit, less);
            b = middle;
        }
    }
}

fn insertion_sort<T>(v: &mut [T], a: usize, b: usize, less: &impl Fn(&T, &T) -> bool) {
    for i in a + 1..b {
        let mut j = i;
        while j > a && less(&v[j], &v[j - 1]) {
            v.swap(j, j - 1);
            j -= 1;
        }
    }
}

fn heap_sort<T>(v: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    for root in (0..=(v.len() - 1) / 2).rev() {
        sift_down(v, root, less);
    }
    for end in (0..v.len()).rev() {
        v.swap(0, end);
        sift_down(&mut v[..end], 0, less);
    }
}

/// Scatters three elements, the same ones for the same length.
fn break_patterns<T>(v: &mut [T], a: usize, b: usize) {
    let length = b - a;
    if length < 8 {
        return;
    }
    let mut random = length as u64;
    let modulus = 1u64 << (u64::BITS - random.leading_zeros());
    let index = a + (length / 4) * 2 - 1;
    for i in 0..3 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut other = (random & (modulus - 1)) as usize;
        if other >= length {
            other -= length;
        }
        v.swap(index - 1 + i, a + other);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

fn choose_pivot<T>(v: &[T], a: usize, b: usize, less: &impl Fn(&T, &T) -> bool) -> (usize, Hint) {
    const NINTHER: usize = 50;
    const MOST_SWAPS: usize = 12;
    let length = b - a;
    let mut swaps = 0;
    let mut median = |x: usize, y: usize, z: usize| {
        let mut ordered = |x: usize, y: usize| {
            let swap = less(&v[y], &v[x]);
            swaps += usize::from(swap);
            if swap { (y, x) } else { (x, y) }
        };
        let (x, y) = ordered(x, y);
        let (y, _) = ordered(y, z);
        ordered(x, y).1
    };
    let (mut i, mut j, mut k) = (a + length / 4, a + length / 4 * 2, a + length / 4 * 3);
    if length >= 8 {
        if length >= NINTHER {
            i = median(i - 1, i, i + 1);
            j = median(j - 1, j, j + 1);
            k = median(k - 1, k, k + 1);
        }
        j = median(i, j, k);
    }
    let hint = match swaps {
        0 => Hint::Increasing,
        MOST_SWAPS => Hint::Decreasing,
        _ => Hint::Unknown,
    };
    (j, hint)
}

fn partial_insertion_sort<T>(
    v: &mut [T],
    a: usize,
    b: usize,
    less: &impl Fn(&T, &T) -> bool,
) -> bool {
    const MOST_STEPS: usize = 5;
    const SHORTEST: usize = 50;
    let mut i = a + 1;
    for _ in 0..MOST_STEPS {
        while i < b && !less(&v[i], &v[i - 1]) {
            i += 1;
        }
        if i == b {
            return true;
        }
        if b - a < SHORTEST {
            return false;
        }
        v.swap(i, i - 1);
        if i - a >= 2 {
            let mut j = i - 1;
            while j >= 1 && less(&v[j], &v[j - 1]) {
                v.swap(j, j - 1);
                j -= 1;
            }
        }
        if b - i >= 2 {
            let mut j = i + 1;
            while j < b && less(&v[j], &v[j - 1]) {
                v.swap(j, j - 1);
                j += 1;
            }
        }
    }
    false
}

/// Elements not greater than the pivot first; returns where the others begin.
fn partition_equal<T>(
    v: &mut [T],
    a: usize,
    b: usize,
    pivot: usize,
    less: &impl Fn(&T, &T) -> bool,
) -> usize {
    v.swap(a, pivot);
    let (mut i, mut j) = (a + 1, b - 1);
    loop {
        while i <= j && !less(&v[a], &v[i]) {
            i += 1;
        }
        while i <= j && less(&v[a], &v[j]) {
            j -= 1;
        }
        if i > j {
            return i;
        }
        v.swap(i, j);
        i += 1;
        j -= 1;
    }
}

/// Smaller elements, the pivot, the others; returns where the pivot is, and whether nothing had to
/// move.
fn partition<T>(
    v: &mut [T],
    a: usize,
    b: usize,
    pivot: usize,
    less: &impl Fn(&T, &T) -> bool,
) -> (usize, bool) {
    v.swap(a, pivot);
    let (mut i, mut j) = (a + 1, b - 1);
    let mut already = true;
    loop {
        while i <= j && less(&v[i], &v[a]) {
            i += 1;
        }
        while i <= j && !less(&v[j], &v[a]) {
            j -= 1;
        }
        if i > j {
            v.swap(j, a);
            return (j, already);
        }
        already = false;
        v.swap(i, j);
        i += 1;
        j -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all kinds of shape, drawn alike on every run.
    fn numbers(length: usize, kinds: u64, seed: u64) -> Vec<u64> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        (0..length).map(|_| next() % kinds).collect()
    }

    #[test]
    fn what_can_be_sorted_is_sorted() {
        for (length, kinds) in [
            (0, 1),
            (1, 1),
            (12, 5),
            (13, 3),
            (60, 1000),
            (500, 7),
            (3000, 100_000),
        ] {
            let mut items = numbers(length, kinds, length as u64 + 1);
            let mut expected = items.clone();
            expected.sort_unstable();
            sort(&mut items, &|a, b| a < b);
            assert_eq!(items, expected, "{length} items");
            items.reverse();
            sort(&mut items, &|a, b| a < b);
            assert_eq!(items, expected, "{length} items, descending");
        }
    }

    #[test]
    fn an_inconsistent_order_ends_too() {
        for length in [13, 100, 1000] {
            let mut items = numbers(length, 50, 7);
            sort(&mut items, &|_, _| true);
            sort(&mut items, &|_, _| false);
            assert_eq!(items.len(), length);
        }
    }

    #[test]
    fn the_root_of_a_heap_is_the_least() {
        let mut heap = Vec::new();
        let less = |a: &u64, b: &u64| a < b;
        for item in numbers(200, 90, 3) {
            heap_push(&mut heap, item, &less);
        }
        assert_eq!(heap.iter().min(), heap.first());
        heap[0] = 1000;
        heap_fix_root(&mut heap, &less);
        assert_eq!(heap.iter().min(), heap.first());
    }
}
