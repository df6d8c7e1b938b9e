//! The one integration binary. Each module says what belongs there.

mod architecture;
