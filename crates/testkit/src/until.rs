//! Waiting for a condition, with a deadline; never for a time.

use std::time::{Duration, Instant};

/// Asks until the answer is `Some`.
pub async fn some<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until the answer is yes.
pub async fn yes<F, Fut>(what: &str, limit: Duration, mut ask: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let mut ask = move || {
        let answer = ask();
        async move { answer.await.then_some(()) }
    };
    some(what, limit, &mut ask).await;
}

/// Asks until nothing is named any more; what was named last is what a failure tells.
pub async fn none<F, Fut>(what: &str, limit: Duration, mut ask: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Vec<String>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let named = ask().await;
        if named.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "after {limit:?}: {what}: {named:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
