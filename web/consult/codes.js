// What the codes of docs/protocol.md mean to the person in front of the page.

// The appointment's law, whatever server runs.
const PERSON = [
  "policy_missing", "denied_country", "no_common_place", "subdivision_needed", "refused_by_operator", "not_served",
];
// A server that the law allows is missing now.
const PLACE = [
  "home_only", "outside_block", "not_adequate", "condition_unmet", "fact_missing", "baa_missing",
  "instrument_missing", "product_default", "stored_nowhere", "region_draining", "region_down",
  "region_unhealthy", "region_full", "no_region",
];

/** @type {Record<string, string>} */
const REFUSALS = {
  ...Object.fromEntries(PERSON.map((code) => [code, "refused.person"])),
  ...Object.fromEntries(PLACE.map((code) => [code, "refused.place"])),
  token_invalid: "link.bad",
  not_found: "link.bad",
  token_early: "link.early",
  token_expired: "link.expired",
  consult_ended: "ended.done",
  not_encrypted: "refused.e2ee",
};

/** The text of a refusal; "" for the trouble of one edge (wrong_edge, room_full,
 * store_unavailable, internal, or a code of tomorrow), where another may help.
 * @param {string} code */
export const refusalText = (code) => REFUSALS[code] ?? "";

/** The text of `ended`. @param {string} reason */
export function endText(reason) {
  if (reason === "replaced") return "link.elsewhere";
  if (reason === "law") return "ended.law";
  return reason === "expired" ? "link.expired" : "ended.done";
}
