//! What the page says, in each language. `{host}`, `{ports}`, `{time}` and so on are filled in.

use crate::model::Lifetime;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Italian.
    It,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 4] = [Language::En, Language::Fr, Language::Es, Language::It];

    /// As in RFC 5646.
    pub fn tag(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Fr => "fr",
            Language::Es => "es",
            Language::It => "it",
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Language::En => &EN,
            Language::Fr => &FR,
            Language::Es => &ES,
            Language::It => &IT,
        }
    }

    /// Text as it is set in that language: French has a space before tall punctuation, at which no
    /// line may end.
    pub(super) fn set(self, text: &str) -> String {
        if self != Language::Fr {
            return text.to_owned();
        }
        [" :", " ;", " !", " ?", " »", "« "]
            .iter()
            .fold(text.to_owned(), |text, space| {
                text.replace(space, &space.replace(' ', "\u{a0}"))
            })
    }

    /// `5 minutes`, `90 seconds`, `2 hours`; `None` if it never ends.
    pub(super) fn time(self, lifetime: Lifetime) -> Option<String> {
        let seconds = lifetime.as_secs()?.max(1);
        let (count, unit) = match seconds {
            s if s.is_multiple_of(86_400) => (s / 86_400, 3),
            s if s.is_multiple_of(3600) => (s / 3600, 2),
            s if s.is_multiple_of(60) => (s / 60, 1),
            s => (s, 0),
        };
        let units = self.words().units[unit];
        let unit = units[usize::from(count != 1)];
        Some(format!("{count}\u{a0}{unit}"))
    }
}

/// All of the page's sentences.
pub(super) struct Words {
    pub(super) title: &'static str,
    /// Before the list of ports, or before the only one.
    pub(super) lead: &'static str,
    pub(super) lead_one: &'static str,
    /// With the time that an acceptance lasts, or without end.
    pub(super) lasts: &'static str,
    pub(super) lasts_for_good: &'static str,
    /// Where the first connection uses an acceptance up.
    pub(super) once: &'static str,
    pub(super) button: &'static str,
    pub(super) knocking: &'static str,
    pub(super) done: &'static str,
    pub(super) left: &'static str,
    pub(super) over: &'static str,
    pub(super) offline: &'static str,
    pub(super) blind: &'static str,
    pub(super) no_script: &'static str,
    pub(super) no_udp: &'static str,
    pub(super) blocked: &'static str,
    pub(super) others: &'static str,
    pub(super) others_lead: &'static str,
    pub(super) copy: &'static str,
    pub(super) copied: &'static str,
    pub(super) knock: &'static str,
    pub(super) windows: &'static str,
    pub(super) putty: &'static str,
    pub(super) phone: &'static str,
    pub(super) phone_text: &'static str,
    pub(super) config: &'static str,
    pub(super) config_text: &'static str,
    pub(super) trouble: &'static str,
    pub(super) troubles: [&'static str; 6],
    /// Of a second, a minute, an hour, a day: one, several.
    pub(super) units: [[&'static str; 2]; 4],
}

const EN: Words = Words {
    title: "SSH access to {host}",
    lead: "The SSH port of {host} is shut until you knock: your computer has to contact these ports \
           first, in this order:",
    lead_one: "The SSH port of {host} is shut until you knock: your computer has to contact this port \
               first:",
    lasts: "Your address may then connect for {time}. A session, once open, lasts as long as you \
            like.",
    lasts_for_good: "Your address may then connect. A session, once open, lasts as long as you like.",
    once: "A knock is good for one connection.",
    button: "Knock from this browser",
    knocking: "Knocking on port {port} ({n} of {count})…",
    done: "Knocked. You can connect now:",
    left: "Time left to connect:",
    over: "The time is up. Knock again to open another session; those that are open go on.",
    offline: "This device seems to be offline. Nothing was sent.",
    blind: "This page cannot see whether the port has opened: it only contacts the ports. That the \
            connections fail is normal.",
    no_script: "The button needs JavaScript. Without it, use one of the ways below.",
    no_udp: "A browser cannot knock here, since UDP packets are part of the sequence. Use one of the \
             ways below.",
    blocked: "A browser cannot knock here, since browsers refuse to contact port {ports}. Use one of \
              the ways below.",
    others: "Other ways to knock",
    others_lead: "Each of them contacts the same ports. That the connections are refused, or time \
                  out, is normal.",
    copy: "Copy",
    copied: "Copied",
    knock: "In the package knockd of Debian and Ubuntu, and knock of Homebrew (macOS):",
    windows: "PowerShell (Windows)",
    putty: "In a Windows command prompt; or open a session to each port in turn in PuTTY itself, and \
            close it after a second:",
    phone: "Phones and tablets",
    phone_text: "An app for port knocking (Port Knocker on Android, KnockOnD on iOS): host {host}, \
                 ports {ports}. Or the button above, on the network from which you will connect.",
    config: "Once and for all",
    config_text: "With these lines in ~/.ssh/config, and knock installed, plain “ssh {host}” knocks by \
                  itself:",
    trouble: "If it does not open",
    troubles: [
        "A campus proxy, a private relay (such as iCloud Private Relay) or a VPN knocks from an \
         address of its own, and the port opens for that address only. Turn it off for this page, or knock in \
         one of the other ways, from the machine that will connect.",
        "Knock and connect from the same network: a phone on mobile data does not open the port for \
         the computer beside it.",
        "You may have two addresses, one for IPv4 and one for IPv6, and the browser knocks with one \
         of them only. Try “ssh -4 {host}” and “ssh -6 {host}”.",
        "If the browser asks whether this page may reach devices on your local network, allow it, \
         and press the button again.",
        "Some networks let nothing out but web traffic; knocks do not get through there. Try another \
         network.",
        "After several failed attempts, wait {quiet}: whoever contacts many ports is taken for a \
         scanner. If nothing helps, write to the administrators.",
    ],
    units: [
        ["second", "seconds"],
        ["minute", "minutes"],
        ["hour", "hours"],
        ["day", "days"],
    ],
};

const FR: Words = Words {
    title: "Accès SSH à {host}",
    lead: "Le port SSH de {host} reste fermé tant que vous n’avez pas « frappé à la porte » : votre \
           ordinateur doit d’abord contacter les ports suivants, dans cet ordre :",
    lead_one: "Le port SSH de {host} reste fermé tant que vous n’avez pas « frappé à la porte » : votre \
               ordinateur doit d’abord contacter le port suivant :",
    lasts: "Votre adresse est ensuite autorisée à se connecter pendant {time}. Une session ouverte \
            dure aussi longtemps que vous le souhaitez.",
    lasts_for_good: "Votre adresse est ensuite autorisée à se connecter. Une session ouverte dure \
                     aussi longtemps que vous le souhaitez.",
    once: "Il faut frapper de nouveau avant chaque connexion.",
    button: "Frapper depuis ce navigateur",
    knocking: "Contact du port {port} ({n} sur {count})…",
    done: "C’est fait. Vous pouvez maintenant vous connecter :",
    left: "Temps restant pour vous connecter :",
    over: "Le délai est écoulé. Frappez de nouveau pour ouvrir une autre session ; les sessions en \
           cours continuent.",
    offline: "Cet appareil semble être hors ligne. Rien n’a été envoyé.",
    blind: "Cette page ne peut pas savoir si le port s’est ouvert : elle ne fait que contacter les \
            ports. Il est normal que ces connexions échouent.",
    no_script: "Le bouton nécessite JavaScript. À défaut, utilisez l’une des méthodes ci-dessous.",
    no_udp: "Un navigateur ne peut pas frapper à cette porte, car la séquence comporte des paquets \
             UDP. Utilisez l’une des méthodes ci-dessous.",
    blocked: "Un navigateur ne peut pas frapper à cette porte, car les navigateurs refusent de \
              contacter le port {ports}. Utilisez l’une des méthodes ci-dessous.",
    others: "Autres façons de frapper",
    others_lead: "Toutes contactent les mêmes ports. Il est normal que les connexions soient refusées \
                  ou restent sans réponse.",
    copy: "Copier",
    copied: "Copié",
    knock: "Dans le paquet knockd de Debian et Ubuntu, ou knock de Homebrew (macOS) :",
    windows: "PowerShell (Windows)",
    putty: "Dans une invite de commandes Windows ; ou bien ouvrez dans PuTTY une session vers chacun \
            des ports, l’un après l’autre, et fermez-la au bout d’une seconde :",
    phone: "Téléphones et tablettes",
    phone_text: "Une application de « port knocking » (Port Knocker sous Android, KnockOnD sous iOS) : \
                 hôte {host}, ports {ports}. Ou le bouton ci-dessus, depuis le réseau par lequel vous \
                 vous connecterez.",
    config: "Une fois pour toutes",
    config_text: "Avec ces lignes dans ~/.ssh/config, et knock installé, un simple « ssh {host} » \
                  frappe de lui-même :",
    trouble: "Si la porte ne s’ouvre pas",
    troubles: [
        "Un proxy de l’établissement, un relais privé (comme le Relais privé iCloud) ou un VPN frappe \
         depuis sa propre adresse, et c’est pour elle que le port s’ouvre. Désactivez-le pour cette \
         page, ou frappez d’une autre façon, depuis la machine qui se connectera.",
        "Frappez et connectez-vous depuis le même réseau : un téléphone sur le réseau mobile n’ouvre \
         pas le port pour l’ordinateur posé à côté.",
        "Vous avez peut-être deux adresses, l’une en IPv4 et l’autre en IPv6, et le navigateur n’en \
         utilise qu’une. Essayez « ssh -4 {host} » puis « ssh -6 {host} ».",
        "Si le navigateur demande si cette page peut accéder aux appareils de votre réseau local, \
         acceptez, puis cliquez de nouveau sur le bouton.",
        "Certains réseaux ne laissent sortir que le trafic web ; il est alors impossible de frapper. \
         Essayez depuis un autre réseau.",
        "Après plusieurs échecs, patientez {quiet} : une adresse qui contacte de nombreux ports \
         est prise pour un scanner. Si rien n’y fait, écrivez aux administrateurs.",
    ],
    units: [
        ["seconde", "secondes"],
        ["minute", "minutes"],
        ["heure", "heures"],
        ["jour", "jours"],
    ],
};

const ES: Words = Words {
    title: "Acceso SSH a {host}",
    lead: "El puerto SSH de {host} permanece cerrado hasta que se «llame a la puerta»: su ordenador \
           debe contactar antes con estos puertos, en este orden:",
    lead_one: "El puerto SSH de {host} permanece cerrado hasta que se «llame a la puerta»: su \
               ordenador debe contactar antes con este puerto:",
    lasts: "Después, su dirección podrá conectarse durante {time}. Una sesión abierta dura todo el \
            tiempo que usted quiera.",
    lasts_for_good: "Después, su dirección podrá conectarse. Una sesión abierta dura todo el tiempo \
                     que usted quiera.",
    once: "Hay que llamar de nuevo antes de cada conexión.",
    button: "Llamar desde este navegador",
    knocking: "Contactando con el puerto {port} ({n} de {count})…",
    done: "Hecho. Ya puede conectarse:",
    left: "Tiempo restante para conectarse:",
    over: "Se ha agotado el tiempo. Llame de nuevo para abrir otra sesión; las que están abiertas \
           continúan.",
    offline: "Este dispositivo parece no tener conexión. No se ha enviado nada.",
    blind: "Esta página no puede saber si el puerto se ha abierto: solo contacta con los puertos. Es \
            normal que esas conexiones fallen.",
    no_script: "El botón necesita JavaScript. Sin él, utilice uno de los métodos siguientes.",
    no_udp: "Un navegador no puede llamar a esta puerta, porque la secuencia incluye paquetes UDP. \
             Utilice uno de los métodos siguientes.",
    blocked: "Un navegador no puede llamar a esta puerta, porque los navegadores se niegan a \
              contactar con el puerto {ports}. Utilice uno de los métodos siguientes.",
    others: "Otras formas de llamar",
    others_lead: "Todas contactan con los mismos puertos. Es normal que las conexiones se rechacen o \
                  queden sin respuesta.",
    copy: "Copiar",
    copied: "Copiado",
    knock: "En el paquete knockd de Debian y Ubuntu, o knock de Homebrew (macOS):",
    windows: "PowerShell (Windows)",
    putty: "En el símbolo del sistema de Windows; o bien abra en PuTTY una sesión con cada puerto, uno \
            tras otro, y ciérrela al cabo de un segundo:",
    phone: "Teléfonos y tabletas",
    phone_text: "Una aplicación de «port knocking» (Port Knocker en Android, KnockOnD en iOS): \
                 servidor {host}, puertos {ports}. O el botón de arriba, desde la red por la que se \
                 conectará.",
    config: "De una vez por todas",
    config_text: "Con estas líneas en ~/.ssh/config, y knock instalado, basta «ssh {host}» para llamar \
                  y conectarse:",
    trouble: "Si no se abre",
    troubles: [
        "Un proxy del campus, un relay privado (como el Relay privado de iCloud) o una VPN \
         llama desde su propia dirección, y el puerto se abre para ella. Desactívelo para esta \
         página, o llame de otra forma, desde la máquina que vaya a conectarse.",
        "Llame y conéctese desde la misma red: un teléfono con datos móviles no abre el puerto para \
         el ordenador que está al lado.",
        "Puede que tenga dos direcciones, una IPv4 y otra IPv6, y que el navegador use solo una. \
         Pruebe «ssh -4 {host}» y «ssh -6 {host}».",
        "Si el navegador pregunta si esta página puede acceder a los dispositivos de su red local, \
         acéptelo y pulse de nuevo el botón.",
        "Algunas redes solo dejan salir el tráfico web; desde ellas no es posible llamar. Pruebe \
         desde otra red.",
        "Tras varios intentos fallidos, espere {quiet}: a quien contacta con muchos puertos se \
         le toma por un escáner. Si nada funciona, escriba a los administradores.",
    ],
    units: [
        ["segundo", "segundos"],
        ["minuto", "minutos"],
        ["hora", "horas"],
        ["día", "días"],
    ],
};

const IT: Words = Words {
    title: "Accesso SSH a {host}",
    lead: "La porta SSH di {host} resta chiusa finché non si «bussa»: il computer deve prima \
           contattare queste porte, in quest’ordine:",
    lead_one: "La porta SSH di {host} resta chiusa finché non si «bussa»: il computer deve prima \
               contattare questa porta:",
    lasts: "Il suo indirizzo può poi collegarsi per {time}. Una sessione aperta dura quanto si vuole.",
    lasts_for_good: "Il suo indirizzo può poi collegarsi. Una sessione aperta dura quanto si vuole.",
    once: "Occorre bussare di nuovo prima di ogni collegamento.",
    button: "Bussa da questo browser",
    knocking: "Contatto la porta {port} ({n} di {count})…",
    done: "Fatto. Ora può collegarsi:",
    left: "Tempo rimasto per collegarsi:",
    over: "Il tempo è scaduto. Bussi di nuovo per aprire un’altra sessione; quelle aperte continuano.",
    offline: "Questo dispositivo sembra non essere in linea. Non è stato inviato nulla.",
    blind: "Questa pagina non può sapere se la porta si è aperta: si limita a contattare le porte. È \
            normale che queste connessioni falliscano.",
    no_script: "Il pulsante richiede JavaScript. In alternativa, usi uno dei modi qui sotto.",
    no_udp: "Un browser non può bussare qui, perché la sequenza comprende pacchetti UDP. Usi uno dei \
             modi qui sotto.",
    blocked: "Un browser non può bussare qui, perché i browser rifiutano di contattare la porta \
              {ports}. Usi uno dei modi qui sotto.",
    others: "Altri modi per bussare",
    others_lead: "Tutti contattano le stesse porte. È normale che le connessioni siano rifiutate o \
                  restino senza risposta.",
    copy: "Copia",
    copied: "Copiato",
    knock: "Nel pacchetto knockd di Debian e Ubuntu, o knock di Homebrew (macOS):",
    windows: "PowerShell (Windows)",
    putty: "Dal prompt dei comandi di Windows; oppure apra in PuTTY una sessione verso ciascuna porta, \
            una dopo l’altra, e la chiuda dopo un secondo:",
    phone: "Telefoni e tablet",
    phone_text: "Un’app per il port knocking (Port Knocker su Android, KnockOnD su iOS): host {host}, \
                 porte {ports}. Oppure il pulsante qui sopra, dalla rete con cui ci si collegherà.",
    config: "Una volta per tutte",
    config_text: "Con queste righe in ~/.ssh/config, e knock installato, basta «ssh {host}» per \
                  bussare e collegarsi:",
    trouble: "Se non si apre",
    troubles: [
        "Un proxy dell’ateneo, un relay privato (come il Relay privato iCloud) o una VPN bussa dal \
         proprio indirizzo, e la porta si apre per quello. Lo disattivi per questa pagina, o bussi in \
         un altro modo, dal computer che si collegherà.",
        "Bussi e si colleghi dalla stessa rete: un telefono sulla rete mobile non apre la porta per \
         il computer che gli sta accanto.",
        "È possibile avere due indirizzi, uno IPv4 e uno IPv6, e il browser ne usa uno solo. Provi \
         «ssh -4 {host}» e «ssh -6 {host}».",
        "Se il browser chiede se questa pagina può accedere ai dispositivi della rete locale, \
         acconsenta e prema di nuovo il pulsante.",
        "Alcune reti lasciano uscire solo il traffico web; da lì non si può bussare. Provi da un’altra \
         rete.",
        "Dopo vari tentativi falliti, attenda {quiet}: chi contatta molte porte passa per uno \
         scanner. Se il problema persiste, scriva agli amministratori.",
    ],
    units: [
        ["secondo", "secondi"],
        ["minuto", "minuti"],
        ["ora", "ore"],
        ["giorno", "giorni"],
    ],
};
