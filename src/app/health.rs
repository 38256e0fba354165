//! `bootjackd health`: whether the running service serves, for container engines and monitors that run a command.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Loaded;
use super::explain::channel;

/// Longer than any answer takes of a service that is well.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the service of this configuration over its own gRPC (grpc.health.v1), and answers where; an error says why it is not
/// well.
pub async fn health(loaded: &Loaded) -> anyhow::Result<String> {
    let places: Vec<String> = (loaded.config.grpc.listen.iter())
        .map(ToString::to_string)
        .collect();
    let places = places.join(", ");
    let asked = async {
        let channel = channel(&loaded.config.grpc.listen)
            .await
            .with_context(|| format!("no service answers on {places}; is bootjackd running?"))?;
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
            .map_err(|status| anyhow::anyhow!("{places}: {}", status.message()))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => bail!("{places}: it is {}", other.as_str_name()),
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .with_context(|| format!("{places}: no answer in {PATIENCE:?}"))??;
    Ok(places)
}
