#include "attest/statement.hpp"

#include "codec/go_json.hpp"

namespace cooper::attest {

std::string make_statement(const Attestation& attestation, const std::vector<Subject>& subjects) {
    codec::GoJson json("  ");
    json.begin_object();
    json.field("_type", kStatementType);
    json.field("predicateType", attestation.predicate_type);
    json.key("subject").begin_array();
    const auto put = [&](std::string_view name, const std::map<std::string, std::string>& digests) {
        json.begin_object().field("name", name.empty() ? "_" : name).key("digest").begin_object();
        for (const auto& [algorithm, hex] : digests) json.field(algorithm, hex);
        json.end_object().end_object();
    };
    const auto put_result = [&](const std::string& further_name) {
        for (const auto& subject : subjects) {
            const std::map<std::string, std::string> digest{{"sha256", subject.digest.hex()}};
            put(subject.name, digest);
            if (!further_name.empty()) put(further_name, digest);
        }
    };
    for (const auto& one : attestation.about) {
        if (one.result) {
            put_result(one.name);
        } else {
            put(one.name, one.digests);
        }
    }
    if (attestation.about.empty()) put_result("");
    json.end_array();
    json.key("predicate").raw(attestation.predicate);
    json.end_object();
    return std::move(json).take();
}

}  // namespace cooper::attest
