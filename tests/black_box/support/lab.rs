//! A service with its API, and a link on which clients are made packet by packet.

use std::future::Future;

use tonic::Status;
use tonic_types::StatusExt as _;

use super::api::Api;
use super::dhcp::Segment;
use super::netns::Netns;
use super::service::{Home, Service};

pub struct Lab {
    pub service: Service,
    pub api: Api,
    pub segment: Segment,
    pub netns: Netns,
    pub home: Home,
}

impl Lab {
    /// With this at the end of its configuration.
    pub fn new(more: &str) -> Self {
        let (netns, segment) = Segment::new();
        let home = Home::new();
        let service = Service::start(&netns, &home, &home.config(more));
        Self {
            api: Api::unix(&home),
            service,
            segment,
            netns,
            home,
        }
    }

    /// Kills the service, as a power cut would, and starts it again on the same data.
    pub fn killed_and_started(self, more: &str) -> Self {
        self.service.kill();
        let service = Service::start(&self.netns, &self.home, &self.home.config(more));
        Self {
            api: Api::unix(&self.home),
            service,
            ..self
        }
    }

    /// Calls a service of the contract.
    pub fn call<T>(
        &self,
        work: impl AsyncFnOnce(tonic::transport::Channel) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let answer = self.api.with(async |channel| work(channel).await);
        answer.map(tonic::Response::into_inner)
    }
}

/// Reads a stream until as many as are wanted have come.
pub async fn take<T, F>(stream: &mut tonic::Streaming<T>, most: usize, is_last: F) -> Vec<T>
where
    F: Fn(&T) -> bool,
{
    let mut taken = Vec::new();
    while taken.len() < most {
        let message: Option<T> = next(stream.message()).await.expect("no status yet");
        let message = message.expect("the stream goes on");
        let ends = is_last(&message);
        taken.push(message);
        if ends {
            break;
        }
    }
    taken
}

async fn next<T>(message: impl Future<Output = T>) -> T {
    message.await
}

/// The fields that a refusal names, and its reason.
pub fn details(status: &Status) -> (Vec<String>, String) {
    let fields = status.get_details_bad_request().into_iter();
    let fields = fields.flat_map(|details| details.field_violations);
    let reason = status.get_details_error_info();
    (
        fields.map(|violation| violation.field).collect(),
        reason.map_or_else(String::new, |info| info.reason),
    )
}
