// What a frontend says of its results: predicates and whole statements, in files of other results. They are a
// frontend's, so they are anybody's: sizes and counts are bounded, and none may pass for provenance, which is cooper's
// to say.

#include "attest/statement.hpp"
#include "engine/detail/exporting.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::engine {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxContent = std::size_t{80} << 20U;
constexpr std::size_t kMaxStatements = 1000;  // of one result
constexpr std::string_view kProvenance = "https://slsa.dev/provenance/";

Result<> check_type(const std::string& predicate_type) {
    if (predicate_type.empty()) return bad_input("it has no predicate type");
    if (!predicate_type.starts_with(kProvenance)) return {};
    return bad_input("a frontend may not say how a build went: {}", predicate_type)
        .with_hint("--provenance has cooper say it");
}

std::map<std::string, std::string> to_digests(const std::vector<std::string>& digests) {
    std::map<std::string, std::string> out;
    for (const auto& digest : digests) {
        const auto [algorithm, hex] = cut(digest, ':');
        if (hex) out[std::string(algorithm)] = *hex;
    }
    return out;
}

bool says(const FrontendStatement& statement, const char* key, std::string_view value) {
    const auto found = statement.metadata.find(key);
    return found != statement.metadata.end() && found->second == value;
}

Result<std::string> bytes_of(const snapshot::Tree& tree, const std::string& path) {
    auto text = TRY(tree.read_file("/" + path, kMaxContent + 1));
    if (!text) return fail(Code::not_found, Blame::user, "it is not in the frontend's result");
    if (text->size() > kMaxContent) {
        return fail(Code::resource_exhausted, Blame::user, "it has more than {} bytes", kMaxContent);
    }
    return std::move(*text);
}

ordered_json parse(const std::string& text) {
    const auto too_deep = [](int depth, ordered_json::parse_event_t /*event*/, ordered_json& /*parsed*/) {
        return depth < 200;
    };
    return ordered_json::parse(text, too_deep, false);
}

// A whole statement; its subjects stay those that it names.
Result<attest::Attestation> from_statement(const std::string& text, const FrontendStatement& bundle) {
    const ordered_json json = parse(text);
    const auto text_of = [](const ordered_json& object, const char* key) {
        const auto found = object.find(key);
        return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    if (!json.is_object() || !json.contains("predicate")) return bad_input("it is no in-toto statement");
    attest::Attestation out{.predicate_type = text_of(json, "predicateType"), .predicate = {}, .filename = {}};
    TRY(check_type(out.predicate_type));
    if (!bundle.predicate_type.empty() && out.predicate_type != bundle.predicate_type)
        return bad_input("it is {}, and the bundle is said to be {}", out.predicate_type, bundle.predicate_type);
    out.predicate = json["predicate"].dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    const auto subjects = json.find("subject");
    if (subjects == json.end() || !subjects->is_array()) return out;
    for (const auto& subject : *subjects) {
        if (!subject.is_object()) return bad_input("it is no in-toto statement");
        attest::About about{.result = false, .name = text_of(subject, "name"), .digests = {}};
        if (const auto digests = subject.find("digest"); digests != subject.end() && digests->is_object()) {
            for (const auto& [algorithm, hex] : digests->items()) {
                if (hex.is_string()) about.digests[algorithm] = hex.get<std::string>();
            }
        }
        out.about.push_back(std::move(about));
    }
    return out;
}

Result<attest::Attestation> from_predicate(std::string text, const FrontendStatement& statement) {
    TRY(check_type(statement.predicate_type));
    if (text.empty()) text = "null";
    if (!ordered_json::accept(text)) return bad_input("it is no JSON");
    attest::Attestation out{.predicate_type = statement.predicate_type, .predicate = std::move(text), .filename = {}};
    for (const auto& subject : statement.subjects)
        out.about.push_back({.result = subject.result, .name = subject.name, .digests = to_digests(subject.digests)});
    return out;
}

}  // namespace

Result<std::vector<const FrontendStatement*>> LocalJob::stated_by_frontend(const Exporting& e,
                                                                           const std::string& platform) const {
    std::vector<const FrontendStatement*> out;
    for (const auto& [id, statements] : e.result.statements) {
        // A frontend may name the platform of the only result there is.
        const bool only = e.result.single && e.result.statements.size() == 1;
        if (!only && !(e.result.single ? id.empty() : e.result.refs.contains(id)))
            return bad_input("the frontend makes a statement of {} and has no result for it", quoted(id));
        if (!only && id != platform) continue;
        for (const auto& one : statements) {
            if (says(one, "inline-only", "true") && !e.options.attestation_inline) continue;
            out.push_back(&one);
        }
    }
    return out;
}

Result<bool> LocalJob::attests(const Exporting& e, const std::string& platform) const {
    return !wanted_by(e).empty() || !TRY(stated_by_frontend(e, platform)).empty();
}

Result<std::vector<attest::Attestation>> LocalJob::read_statements(
    Exporting& e, const std::vector<const FrontendStatement*>& statements) {
    std::vector<attest::Attestation> core;  // the bill of what the result is mostly: it comes first
    std::vector<attest::Attestation> others;
    const auto keep = [&](attest::Attestation read, const FrontendStatement& from,
                          const std::string& name) -> Result<> {
        if (core.size() + others.size() >= kMaxStatements)
            return bad_input("the frontend makes more than {} statements", kMaxStatements);
        read.filename = name;
        const bool first = says(from, "sbom-core", name.substr(0, name.find('.')));
        (first ? core : others).push_back(std::move(read));
        return {};
    };
    const auto read = [&](const FrontendStatement& one) -> Result<> {
        const auto tree = TRY(workshop_->trees().tree(TRY(build(one.ref, e.stop)), e.progress(), e.stop));
        if (!one.bundle) {
            const std::string name = one.path.substr(one.path.rfind('/') + 1);
            if (name.empty() || name == "." || name == "..") return bad_input("it has no path");
            return keep(TRY(from_predicate(TRY(bytes_of(*tree, one.path)), one)), one, name);
        }
        const auto found = TRY(tree->find("/" + one.path, snapshot::FollowLast::yes));
        if (!found || found->node.kind != snapshot::Kind::directory)
            return bad_input("it is no directory in the frontend's result");
        const auto directory = TRY(tree->open_dir(*found));
        for (const auto& entry : TRY(directory->list())) {
            TRY(check_stop(e.stop));
            const std::string path = found->path + "/" + entry.name;
            const auto take = [&]() -> Result<> {
                return keep(TRY(from_statement(TRY(bytes_of(*tree, path)), one)), one, entry.name);
            };
            TRY_CONTEXT(take(), "{}", quoted(entry.name));
        }
        return {};
    };
    for (const auto* one : statements)
        TRY_CONTEXT(read(*one), "{} of the frontend, {}", one->bundle ? "statements" : "statement", quoted(one->path));
    core.insert(core.end(), std::make_move_iterator(others.begin()), std::make_move_iterator(others.end()));
    return core;
}

}  // namespace cooper::engine
