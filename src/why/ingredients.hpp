// Ingredients: all that the key of one step was made of, by name. A value; texts are redacted before they get here.
#pragma once

#include "llb/op.hpp"
#include "why/cause.hpp"
#include "why/redact.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::why {

struct NamedValue {
    std::string name;  // "env PATH", "user", "mount /root/.cache"
    std::string value;
    friend bool operator==(const NamedValue&, const NamedValue&) = default;
};

// An ARG or ENV of the Dockerfile that the step may depend on.
struct Variable {
    std::string name;
    bool is_argument = false;
    std::string definition;  // as the Dockerfile has it
    std::string given;       // by --build-arg
    bool is_given = false;
    friend bool operator==(const Variable&, const Variable&) = default;
};

struct InputPart {
    std::string step;  // name of the step it comes from; of a local directory: its name
    bool is_local = false;
    std::string image;  // of a base image: its name and what it means now
    std::string digest;
    std::string state;    // which result of that step it is
    std::string content;  // what was read of it; empty: the state decides
    std::string files;    // the name of the list of files; may be empty
    friend bool operator==(const InputPart&, const InputPart&) = default;
};

struct Ingredients {
    std::string builder;  // version of cooper
    std::string project;
    std::string name;  // "[builder 3/8] RUN make"
    std::string kind;  // exec, file, image, source, merge, diff, passthrough
    std::string text;  // the instruction as written, joined; else what the name says
    std::vector<NamedValue> values;
    std::vector<Variable> variables;
    std::vector<InputPart> inputs;
    std::string result;  // set once it is known
    // Of a run that has given nothing: kBegun, kFailed, … (cause.hpp), and the step whose failure stopped it.
    std::string ending;
    std::string stopped_by;
};

[[nodiscard]] std::string to_json(const Ingredients& ingredients);
// nullopt: it is none.
[[nodiscard]] std::optional<Ingredients> parse_ingredients(std::string_view json);

// exec, file, image, …
[[nodiscard]] std::string kind_of(const llb::Op& op);
// The named values of an operation. platform: its own or the worker's.
[[nodiscard]] std::vector<NamedValue> values_of(const llb::Op& op, const llb::Platform& platform,
                                                const Redactor& redactor);
// Of "docker-image://name:tag@sha256:…"; nullopt for others.
struct ImageName {
    std::string name;
    std::string digest;
};
[[nodiscard]] std::optional<ImageName> image_of(const llb::Op& op);

}  // namespace cooper::why
