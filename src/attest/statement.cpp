#include "attest/statement.hpp"

#include "codec/go_json.hpp"

namespace cooper::attest {

std::string make_statement(const Attestation& attestation, const std::vector<Subject>& subjects) {
    codec::GoJson json("  ");
    json.begin_object();
    json.field("_type", kStatementType);
    json.field("predicateType", attestation.predicate_type);
    json.key("subject").begin_array();
    for (const auto& subject : subjects) {
        json.begin_object().field("name", subject.name);
        json.key("digest").begin_object().field("sha256", subject.digest.hex()).end_object();
        json.end_object();
    }
    json.end_array();
    json.key("predicate").raw(attestation.predicate);
    json.end_object();
    return std::move(json).take();
}

}  // namespace cooper::attest
