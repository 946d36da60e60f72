// Two Ingredients of what is meant to be one step, compared: the parts of the answer, in the order in which they are
// asked. Pure, any thread.
#pragma once

#include "why/files.hpp"
#include "why/ingredients.hpp"

#include <cstddef>
#include <optional>
#include <set>
#include <string>

namespace cooper::why {

// How near a record is, to choose among several; 0 = another step. elsewhere: instructions that are in the build now
// and so are not what this one was before it was edited.
[[nodiscard]] int likeness(const Ingredients& now, const Ingredients& then, const std::set<std::string>& elsewhere);

// What the Dockerfile or its arguments say otherwise: platform, instruction, ARG, ENV.
[[nodiscard]] std::optional<Cause> cause_in_text(const Ingredients& now, const Ingredients& then);
// The first input that is another one: index into both.
[[nodiscard]] std::optional<std::size_t> differing_input(const Ingredients& now, const Ingredients& then);
// Of an input that is a base image.
[[nodiscard]] std::optional<Cause> cause_in_image(const InputPart& now, const InputPart& then);
// Any other value.
[[nodiscard]] std::optional<Cause> cause_in_values(const Ingredients& now, const Ingredients& then);
// When nothing else is another one: what both have, and one of them keeps for itself (travel.hpp).
[[nodiscard]] std::optional<Cause> cause_in_hidden(const Ingredients& now, const Ingredients& then);
// nullopt: the lists are equal.
[[nodiscard]] std::optional<Cause> cause_in_files(const std::vector<FileEntry>& now,
                                                  const std::vector<FileEntry>& then);

}  // namespace cooper::why
