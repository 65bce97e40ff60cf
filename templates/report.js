"use strict";
(function () {
  var shots = Array.prototype.slice.call(document.querySelectorAll(".shot"));
  var find = document.getElementById("find");
  var told = document.getElementById("found");
  if (find) {
    find.closest(".tools").hidden = false;
    find.addEventListener("input", function () {
      var words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      var count = 0;
      shots.forEach(function (shot) {
        var text = shot.textContent.toLowerCase() + " " + shot.dataset.key.toLowerCase();
        shot.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
        count += shot.hidden ? 0 : 1;
      });
      told.textContent = words.length ? count + " of " + shots.length + " samples" : "";
    });
  }
  function copied(button, done) {
    var before = button.dataset.label;
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(function () { button.textContent = before; }, 1500);
  }
  function byHand(text) {
    var area = document.createElement("textarea");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    return done;
  }
  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    button.hidden = false;
    button.dataset.label = button.textContent;
    button.addEventListener("click", function () {
      var list = document.getElementById(button.dataset.copy).querySelectorAll(".shot");
      var text = Array.prototype.map.call(list, function (shot) { return shot.dataset.key; }).join("\n");
      if (navigator.clipboard && window.isSecureContext) {
        navigator.clipboard.writeText(text).then(function () { copied(button, true); }, function () { copied(button, byHand(text)); });
      } else {
        copied(button, byHand(text));
      }
    });
  });
})();
