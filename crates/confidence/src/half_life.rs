//! How fast news of each kind loses value.

const DAY: f64 = 86_400.0;

/// The default half-life of each signal category, in seconds: how long until half of such signals no
/// longer tell the present state of things. They are judgements, by what makes a signal of that kind stale:
///
/// | category             | days | what makes it stale                                                  |
/// |----------------------|------|----------------------------------------------------------------------|
/// | `industry_news`      | 14   | the next news: a story is followed up or forgotten within weeks      |
/// | `competitor_activity`| 30   | the next move: prices, campaigns and offers change about monthly     |
/// | `customer_sentiment` | 45   | the next experience: moods outlast a campaign, not a quarter         |
/// | `market_trend`       | 90   | the next quarter: trends are measured, and turn, from quarter to quarter |
/// | `technology_shift`   | 180  | adoption: what is adopted takes years, what is announced half a year |
///
/// The categories are those that `intelligence_signals.signal_category` allows.
pub const HALF_LIVES: [(&str, f64); 5] = [
    ("industry_news", 14.0 * DAY),
    ("competitor_activity", 30.0 * DAY),
    ("customer_sentiment", 45.0 * DAY),
    ("market_trend", 90.0 * DAY),
    ("technology_shift", 180.0 * DAY),
];

/// The default half-life of a signal category in seconds, from [`HALF_LIVES`]; None for any other text
/// (the comparison is exact).
#[must_use]
pub fn half_life_seconds(category: &str) -> Option<f64> {
    HALF_LIVES
        .iter()
        .find(|(known, _)| *known == category)
        .map(|&(_, seconds)| seconds)
}
