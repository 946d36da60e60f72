// Operator's log. log::info("layer pulled", {{"digest", d.to_string()}, {"bytes", "12"}}).
// Rooms of rank 6 and below log at debug only. Goes to standard error; off below the set level.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace cooper::log {

enum class Level { debug, info, warn, error, off };
using Field = std::pair<std::string_view, std::string>;

void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
void write(Level level, std::string_view phrase, std::initializer_list<Field> fields);

inline void debug(std::string_view phrase, std::initializer_list<Field> fields) { write(Level::debug, phrase, fields); }
inline void info(std::string_view phrase, std::initializer_list<Field> fields) { write(Level::info, phrase, fields); }
inline void warn(std::string_view phrase, std::initializer_list<Field> fields) { write(Level::warn, phrase, fields); }
inline void error(std::string_view phrase, std::initializer_list<Field> fields) { write(Level::error, phrase, fields); }

}  // namespace cooper::log
