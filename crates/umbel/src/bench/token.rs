use std::sync::Arc;
use std::time::Duration;

use http::Method;
use umbel_client::{Call, Cloud, CloudConfig, Transport};
use umbel_core::Result;

use super::list::rate;
use super::report::Figure;

pub async fn run(config: &CloudConfig, transport: &Arc<dyn Transport>, window: Duration) -> Result<Vec<Figure>> {
    let cloud = Cloud::connect(config, transport.clone()).await?;
    let mut figures = Vec::new();
    for clients in [1, 8] {
        let issued = rate(clients, window, || async { Cloud::login(config, &**transport).await.map(drop) }).await?;
        figures.push(Figure::of(format!("tokens by password, {clients} clients"), "1/s", &[issued]));
    }
    let subject = [("x-subject-token", cloud.token())];
    for clients in [1, 8] {
        let validated = rate(clients, window, || validate(&cloud, &subject)).await?;
        figures.push(Figure::of(format!("tokens validated, {clients} clients"), "1/s", &[validated]));
    }
    Ok(figures)
}

async fn validate(cloud: &Cloud, subject: &[(&str, &str)]) -> Result<()> {
    // Some catalogs give identity's root, some its v3.
    let path = if cloud.endpoint("identity")?.ends_with("/v3") { "/auth/tokens" } else { "/v3/auth/tokens" };
    cloud.bytes(Call::new("identity", Method::GET, path).headers(subject)).await.map(drop)
}
