//! What happens to machines, as bootjackd tells it: a line for each event, from the one after `Timeline::begin` on.

use std::time::Duration;

use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::{Event, WatchEventsRequest};

use super::report::Report;
use crate::client::{self, Server};
use crate::exit::Failure;
use crate::waterfall;

/// A service that is starting again is back within seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A place in what bootjackd tells.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    resume_token: String,
}

impl Timeline {
    /// After everything that has happened by now.
    pub async fn begin(server: &Server) -> Result<Self, Failure> {
        let mut api = MachinesClient::new(client::channel(server).await?);
        let request = WatchEventsRequest::default();
        let refused = |status| client::refused(server, &status);
        let mut stream = api
            .watch_events(request)
            .await
            .map_err(refused)?
            .into_inner();
        let mut begin = Self::default();
        while let Some(told) = stream.message().await.map_err(refused)? {
            begin.resume_token = told.resume_token;
        }
        Ok(begin)
    }

    /// Tells what happens, for ever.
    pub async fn tell(mut self, server: &Server, report: &Report) -> ! {
        loop {
            let _ = self.follow(server, report).await;
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn follow(&mut self, server: &Server, report: &Report) -> Result<(), Failure> {
        let mut api = MachinesClient::new(client::channel(server).await?);
        let request = WatchEventsRequest {
            name: String::new(),
            resume_token: self.resume_token.clone(),
            follow: true,
        };
        let refused = |status| client::refused(server, &status);
        let mut stream = api
            .watch_events(request)
            .await
            .map_err(refused)?
            .into_inner();
        while let Some(told) = stream.message().await.map_err(refused)? {
            self.resume_token = told.resume_token;
            if let Some(event) = told.event {
                say(&event, report);
            }
        }
        Ok(())
    }
}

fn say(event: &Event, report: &Report) {
    let name = event.name.rsplit('/').next().unwrap_or(&event.name);
    report.event(name, &waterfall::text(event));
}
