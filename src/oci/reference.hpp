// Reference: the name of an image ("docker.io/library/alpine:3.19@sha256:…"), with the grammar and the
// normalisation of github.com/distribution/reference. A value; always valid.
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"

#include <compare>
#include <string>
#include <string_view>

namespace cooper::oci {

class Reference {
public:
    // What people write: "alpine" becomes docker.io/library/alpine:latest. The tag "latest" is added
    // when there is neither a tag nor a digest.
    static Result<Reference> parse_normalized(std::string_view text);
    // As above without adding a tag: for names of repositories and for `--tag` like inputs.
    static Result<Reference> parse_untagged(std::string_view text);
    // What LLB carries: must already be full (domain/path, and a tag or digest).
    static Result<Reference> parse_canonical(std::string_view text);

    [[nodiscard]] const std::string& domain() const { return domain_; }  // "docker.io", "localhost:5000"
    [[nodiscard]] const std::string& path() const { return path_; }      // "library/alpine"
    [[nodiscard]] const std::string& tag() const { return tag_; }        // may be empty
    [[nodiscard]] const Digest& digest() const { return digest_; }       // may be empty

    [[nodiscard]] std::string repository() const { return domain_ + "/" + path_; }
    // "docker.io/library/alpine:3.19@sha256:…"
    [[nodiscard]] std::string canonical() const;
    // "alpine:3.19": what docker prints.
    [[nodiscard]] std::string familiar() const;
    [[nodiscard]] std::string familiar_repository() const;

    [[nodiscard]] Result<Reference> with_tag(std::string_view tag) const;
    [[nodiscard]] Reference with_digest(Digest digest) const;  // tag kept
    [[nodiscard]] Reference without_digest() const;
    [[nodiscard]] Reference repository_only() const;
    // Adds "latest" when there is neither tag nor digest.
    [[nodiscard]] Reference with_default_tag() const;

    friend auto operator<=>(const Reference&, const Reference&) = default;
    friend bool operator==(const Reference&, const Reference&) = default;

private:
    Reference() = default;
    static Result<Reference> parse_full(std::string_view text);

    std::string domain_;
    std::string path_;
    std::string tag_;
    Digest digest_;
};

}  // namespace cooper::oci
