//! The only file that names the types of etcd's contract: each call once, at one server, in our words on one side and in etcd's
//! on the other. It knows nothing of other servers, of tries and of passwords that run out.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use self::rpc::auth_client::AuthClient;
use self::rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use self::rpc::kv_client::KvClient;
use self::rpc::lease_client::LeaseClient;
use self::rpc::maintenance_client::MaintenanceClient;
use self::rpc::request_op::Request as AnyRequest;
use self::rpc::response_op::Response as AnyResponse;
use self::rpc::watch_client::WatchClient;
use self::rpc::watch_request::RequestUnion;
use super::terms::{Committed, Compare, Event, KeyValue, LeaseId, Op, Txn, end_of_prefix};

#[allow(clippy::all)]
mod rpc {
    tonic::include_proto!("etcdserverpb");
}

/// A whole batch of reservations comes in one answer of a watch.
const LARGEST_ANSWER: usize = 256 << 20;

/// A server, and the token that says who calls.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) token: Option<AsciiMetadataValue>,
}

/// One page of a listing.
pub(super) struct Page {
    pub(super) entries: Vec<KeyValue>,
    pub(super) revision: i64,
    pub(super) has_more: bool,
}

/// What one answer of a watch says.
pub(super) enum Heard {
    /// It has begun; the server itself is at this revision.
    Begun(i64),
    /// Everything up to this revision has been told.
    Progress(i64),
    /// Changes; all of their revisions unless `is_part`.
    Changes {
        events: Vec<Event>,
        is_part: bool,
    },
    Compacted,
    Canceled(String),
}

/// The answers of a watch; it ends when this is dropped.
pub(super) struct Listening {
    answers: Streaming<rpc::WatchResponse>,
    _requests: mpsc::Sender<rpc::WatchRequest>,
}

impl Line {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// A stream that a server without a leader ends, instead of leaving it silent.
    fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        let value = AsciiMetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", value);
        request
    }

    /// Keys from `from` up to `end`, at a revision or, with 0, now.
    pub(super) async fn range(
        &self,
        from: Bytes,
        end: Bytes,
        limit: i64,
        revision: i64,
    ) -> Result<Page, Status> {
        let request = rpc::RangeRequest {
            key: from,
            range_end: end,
            limit,
            revision,
            ..rpc::RangeRequest::default()
        };
        let mut client =
            KvClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        let answer = client.range(self.request(request)).await?.into_inner();
        Ok(Page {
            revision: revision_of(answer.header),
            has_more: answer.more,
            entries: answer.kvs.into_iter().map(KeyValue::from).collect(),
        })
    }

    pub(super) async fn txn(&self, txn: Txn) -> Result<Committed, Status> {
        let request = rpc::TxnRequest {
            compare: txn.compare.into_iter().map(compare_of).collect(),
            success: txn.then.into_iter().map(op_of).collect(),
            failure: txn.otherwise.into_iter().map(op_of).collect(),
        };
        let mut client =
            KvClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        let answer = client.txn(self.request(request)).await?.into_inner();
        let found = (answer.responses.into_iter())
            .filter_map(|response| match response.response {
                Some(AnyResponse::ResponseRange(range)) => {
                    Some(range.kvs.into_iter().next().map(KeyValue::from))
                }
                _ => None,
            })
            .collect();
        Ok(Committed {
            succeeded: answer.succeeded,
            revision: revision_of(answer.header),
            found,
            was_repeated: false,
        })
    }

    pub(super) async fn grant(&self, seconds: i64) -> Result<LeaseId, Status> {
        let request = rpc::LeaseGrantRequest {
            ttl: seconds,
            id: 0,
        };
        let mut client = LeaseClient::new(self.channel.clone());
        let answer = client.lease_grant(self.request(request)).await?;
        let answer = answer.into_inner();
        match answer.error.as_str() {
            "" => Ok(LeaseId(answer.id)),
            error => Err(Status::failed_precondition(error)),
        }
    }

    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<(), Status> {
        let request = rpc::LeaseRevokeRequest { id: lease.0 };
        let mut client = LeaseClient::new(self.channel.clone());
        client.lease_revoke(self.request(request)).await?;
        Ok(())
    }

    /// Keeps a lease; answers how many seconds it has now, 0 if it is over.
    pub(super) async fn keep(&self, lease: LeaseId) -> Result<i64, Status> {
        let once = tokio_stream::once(rpc::LeaseKeepAliveRequest { id: lease.0 });
        let mut client = LeaseClient::new(self.channel.clone());
        let answers = client.lease_keep_alive(self.stream(once)).await?;
        match answers.into_inner().message().await? {
            Some(answer) => Ok(answer.ttl.max(0)),
            None => Err(Status::unavailable("the stream ended without an answer")),
        }
    }

    pub(super) async fn authenticate(
        &self,
        user: &str,
        password: &str,
    ) -> Result<AsciiMetadataValue, Status> {
        let request = rpc::AuthenticateRequest {
            name: user.to_owned(),
            password: password.to_owned(),
        };
        let mut client = AuthClient::new(self.channel.clone());
        let answer = client.authenticate(Request::new(request)).await?;
        (answer.into_inner().token.parse())
            .map_err(|_| Status::internal("its token is no header value"))
    }

    /// The server's version, and whether it has a leader.
    pub(super) async fn status(&self) -> Result<(String, bool), Status> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let answer = client.status(self.request(rpc::StatusRequest {})).await?;
        let answer = answer.into_inner();
        Ok((answer.version, answer.leader != 0))
    }

    /// Begins to watch every key that begins with `prefix`, from this revision on.
    pub(super) async fn watch(&self, prefix: &Bytes, from: i64) -> Result<Listening, Status> {
        let create = rpc::WatchCreateRequest {
            key: prefix.clone(),
            range_end: end_of_prefix(prefix),
            start_revision: from,
            progress_notify: true,
            fragment: true,
        };
        let (requests, outgoing) = mpsc::channel(1);
        let request = rpc::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // It has room for one.
        let _ = requests.try_send(request);
        let mut client =
            WatchClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        let answers = client
            .watch(self.stream(ReceiverStream::new(outgoing)))
            .await?;
        Ok(Listening {
            answers: answers.into_inner(),
            _requests: requests,
        })
    }
}

impl Listening {
    pub(super) async fn next(&mut self) -> Result<Heard, Status> {
        let answer = self.answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the watch ended"))?;
        if answer.compact_revision > 0 {
            return Ok(Heard::Compacted);
        }
        if answer.canceled {
            return Ok(Heard::Canceled(answer.cancel_reason));
        }
        let revision = revision_of(answer.header);
        if answer.created {
            return Ok(Heard::Begun(revision));
        }
        if answer.events.is_empty() && !answer.fragment {
            return Ok(Heard::Progress(revision));
        }
        Ok(Heard::Changes {
            events: answer.events.into_iter().filter_map(event_of).collect(),
            is_part: answer.fragment,
        })
    }
}

/// Whether another try, at another server, may do better. Everything else is this call's own fault.
pub(super) fn is_away(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
    )
}

/// Whether a new token may do better.
pub(super) fn is_unknown_caller(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || status.message().contains("revision of auth store is old")
        || status.message().contains("user name is empty")
}

/// Whether the wanted revision can no longer be had.
pub(super) fn is_compacted(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("compacted")
}

/// Whether the lease is no more.
pub(super) fn is_over(status: &Status) -> bool {
    status.code() == Code::NotFound
}

fn revision_of(header: Option<rpc::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

impl From<rpc::KeyValue> for KeyValue {
    fn from(kv: rpc::KeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            mod_revision: kv.mod_revision,
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
        }
    }
}

fn event_of(event: rpc::Event) -> Option<Event> {
    let is_put = event.r#type() == rpc::event::Kind::Put;
    let kv = event.kv?;
    Some(Event {
        key: kv.key,
        value: is_put.then_some(kv.value),
        revision: kv.mod_revision,
    })
}

fn compare_of(compare: Compare) -> rpc::Compare {
    let (key, target, union) = match compare {
        Compare::Revision { key, is } => (key, CompareTarget::Mod, TargetUnion::ModRevision(is)),
        Compare::Value { key, is } => (key, CompareTarget::Value, TargetUnion::Value(is)),
    };
    rpc::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key,
        target_union: Some(union),
    }
}

fn op_of(op: Op) -> rpc::RequestOp {
    let request = match op {
        Op::Put { key, value, lease } => AnyRequest::RequestPut(rpc::PutRequest {
            key,
            value,
            lease: lease.map_or(0, |lease| lease.0),
            ignore_value: false,
        }),
        Op::Rebind { key, lease } => AnyRequest::RequestPut(rpc::PutRequest {
            key,
            value: Bytes::new(),
            lease: lease.map_or(0, |lease| lease.0),
            ignore_value: true,
        }),
        Op::Delete { key } => AnyRequest::RequestDeleteRange(rpc::DeleteRangeRequest {
            key,
            range_end: Bytes::new(),
        }),
        Op::DeleteAll { prefix } => AnyRequest::RequestDeleteRange(rpc::DeleteRangeRequest {
            range_end: end_of_prefix(&prefix),
            key: prefix,
        }),
        Op::Get { key } => AnyRequest::RequestRange(rpc::RangeRequest {
            key,
            ..rpc::RangeRequest::default()
        }),
    };
    rpc::RequestOp {
        request: Some(request),
    }
}
