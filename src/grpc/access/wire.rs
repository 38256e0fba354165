//! What a message is about, without knowing the message. In: the octets of a gRPC message, and the contract. Out: the resource it
//! names, its etag, its request id. It looks at fields by their name in the contract, so that what is added there is seen here.

use std::collections::HashMap;

use bootjack_api::v1;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};

/// The contract's methods and messages.
pub(crate) struct Contract {
    methods: HashMap<String, Method>,
    messages: HashMap<String, HashMap<u32, Field>>,
}

/// What goes in and out of a method.
pub(crate) struct Method {
    input: String,
    output: String,
    /// Whether its answer is a stream.
    pub(crate) streams: bool,
}

struct Field {
    name: String,
    /// The message it is, if it is one.
    message: Option<String>,
    is_text: bool,
    is_repeated: bool,
}

/// What a message names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The resource, such as `reservations/node-1`.
    pub(crate) name: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) request_id: Option<String>,
    /// How many resources, where there is a list of them.
    pub(crate) count: usize,
}

impl Contract {
    /// As it was compiled.
    pub(crate) fn new() -> Self {
        let files = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET)
            .expect("the build wrote it by the same rules");
        let mut contract = Self {
            methods: HashMap::new(),
            messages: HashMap::new(),
        };
        for file in &files.file {
            let package = file.package();
            for message in &file.message_type {
                let fields = message.field.iter().map(|field| {
                    let number = u32::try_from(field.number()).unwrap_or_default();
                    (number, Field::new(field))
                });
                let name = format!(".{package}.{}", message.name());
                contract.messages.insert(name, fields.collect());
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    let made = Method {
                        input: method.input_type().to_owned(),
                        output: method.output_type().to_owned(),
                        streams: method.server_streaming(),
                    };
                    contract.methods.insert(path, made);
                }
            }
        }
        contract
    }

    pub(crate) fn method(&self, path: &str) -> Option<&Method> {
        self.methods.get(path)
    }

    /// What the first message of a call names.
    pub(crate) fn asked(&self, method: &Method, stream: &[u8]) -> Named {
        self.named(&method.input, stream)
    }

    /// What the first message of an answer names.
    pub(crate) fn answered(&self, method: &Method, stream: &[u8]) -> Named {
        self.named(&method.output, stream)
    }

    fn named(&self, message: &str, stream: &[u8]) -> Named {
        let mut named = Named::default();
        // A flag for compression, and four octets of length.
        if let [0, _, _, _, _, octets @ ..] = stream {
            self.read(message, octets, true, &mut named);
        }
        named
    }

    fn read(&self, message: &str, octets: &[u8], is_outer: bool, named: &mut Named) {
        let Some(fields) = self.messages.get(message) else {
            return;
        };
        let mut rest = octets;
        while let Some((number, content)) = next(&mut rest) {
            let (Some(field), Some(content)) = (fields.get(&number), content) else {
                continue;
            };
            match (&field.message, field.is_repeated) {
                (None, false) if field.is_text => field.keep(content, named),
                (Some(_), true) if is_outer => named.count += 1,
                (Some(inner), false) if is_outer => self.read(inner, content, false, named),
                _ => {}
            }
        }
    }
}

impl Field {
    fn new(field: &prost_types::FieldDescriptorProto) -> Self {
        Self {
            name: field.name().to_owned(),
            message: (field.r#type() == Type::Message).then(|| field.type_name().to_owned()),
            is_text: field.r#type() == Type::String,
            is_repeated: field.label() == Label::Repeated,
        }
    }

    fn keep(&self, content: &[u8], named: &mut Named) {
        let place = match self.name.as_str() {
            "name" => &mut named.name,
            "etag" => &mut named.etag,
            "request_id" => &mut named.request_id,
            _ => return,
        };
        // What comes from a client stands in a log: no line of it may look like two.
        let text = String::from_utf8_lossy(content);
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        if !text.is_empty() && place.is_none() {
            *place = Some(text);
        }
    }
}

/// The next field: its number, and what is in it if it has a length. None at the end, or where the message ends within a field.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok()?;
    let mut take = |length: usize| {
        let (content, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(content)
    };
    match key & 7 {
        0 => varint(rest).map(|_| (number, None)),
        1 => take(8).map(|_| (number, None)),
        5 => take(4).map(|_| (number, None)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (content, after) = rest.split_at_checked(length)?;
            *rest = after;
            Some((number, Some(content)))
        }
        _ => None,
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let octets = message.encode_to_vec();
        let length = u32::try_from(octets.len()).expect("short");
        [&[0][..], &length.to_be_bytes(), &octets].concat()
    }

    fn method<'a>(contract: &'a Contract, name: &str) -> &'a Method {
        let path = format!("/bootjack.v1.Reservations/{name}");
        contract.method(&path).expect("it is in the contract")
    }

    #[test]
    fn a_message_says_what_it_is_about_at_the_top_or_in_its_resource() {
        let contract = Contract::new();
        let delete = v1::DeleteReservationRequest {
            name: "reservations/node-1".into(),
            etag: "7".into(),
            ..Default::default()
        };
        let asked = contract.asked(method(&contract, "DeleteReservation"), &framed(&delete));
        assert_eq!(asked.name.as_deref(), Some("reservations/node-1"));
        assert_eq!(asked.etag.as_deref(), Some("7"));
        let update = v1::UpdateReservationRequest {
            reservation: Some(v1::Reservation {
                name: "reservations/node-2\nforged".into(),
                hostname: "secret".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let asked = contract.asked(method(&contract, "UpdateReservation"), &framed(&update));
        assert_eq!(asked.name.as_deref(), Some("reservations/node-2forged"));
    }

    #[test]
    fn the_resources_of_a_batch_are_counted() {
        let contract = Contract::new();
        let answer = v1::BatchCreateReservationsResponse {
            reservations: vec![v1::Reservation::default(); 300],
        };
        let batch = method(&contract, "BatchCreateReservations");
        assert_eq!(contract.answered(batch, &framed(&answer)).count, 300);
        assert!(!batch.streams);
    }

    #[test]
    fn octets_that_are_no_message_name_nothing_and_do_no_harm() {
        let contract = Contract::new();
        let create = method(&contract, "CreateReservation");
        for length in 0..300_usize {
            let octets: Vec<u8> = (0..length).map(|n| (n * 251 + length) as u8).collect();
            contract.asked(create, &octets);
            contract.asked(create, &[&[0, 0, 0, 0, 0][..], &octets].concat());
        }
        assert_eq!(contract.asked(create, b""), Named::default());
    }
}
